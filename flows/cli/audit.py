"""``wardwatch audit``: the log of every touch."""

from __future__ import annotations

from pathlib import Path

import typer

from flows.cli.context import context_of
from infra.audit_verify import tampering, verify
from infra.keyring import PublicKeys
from infra.night import CHECKPOINT_KEY
from schemas.errors import IntegrityError

audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)


@audit_app.command("verify")
def audit_verify(context: typer.Context) -> None:
    """Check the chain and the signed checkpoints; says exactly what is wrong and where."""
    workspace = context_of(context).open()
    public = PublicKeys.load(workspace.zone("keys")).signers("audit_signing")
    second = workspace.settings.second_audit_sink
    findings = verify(
        workspace.zone("audit"),
        {CHECKPOINT_KEY: [bytes.fromhex(key) for key in public.values()]},
        second_sink=Path(second) if second else None,
    )
    for finding in findings:
        print(finding)
    if wrong := tampering(findings):
        raise IntegrityError(
            f"the audit log is not what was written: {len(wrong)} finding(s)",
            next_step="keep the folder as it is and call the auditor",
        )
    print("the audit log is whole: every line follows from the one before, and every checkpoint holds")


def register(app: typer.Typer) -> None:
    app.add_typer(audit_app, name="audit")
