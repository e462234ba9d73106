"""``wardwatch keys``, ``vault``, ``audit`` and ``release``: for those who answer for the data."""

from __future__ import annotations

from pathlib import Path

import typer

from flows.cli.context import audit_log, context_of, now, print_json
from infra import publish, vault
from infra.audit_verify import tampering, verify
from infra.keyring import Keyring, PublicKeys
from infra.night import CHECKPOINT_KEY
from infra.officers import SIGNING_FILE, Officers, load_signing_key
from infra.purposes import require_purpose
from infra.workspace import Workspace
from schemas.errors import IntegrityError, NotPermitted, WorkspaceError

keys_app = typer.Typer(help="The pipeline's keys.", no_args_is_help=True)
vault_app = typer.Typer(help="The vault: what is in it, and whether it is untouched.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)
release_app = typer.Typer(help="The public set of a run.", no_args_is_help=True)

RELEASE_MANAGER = "release_manager"


# Keys


@keys_app.command("list")
def keys_list(context: typer.Context, as_json: bool = typer.Option(False, "--json")) -> None:
    """Names, kinds, fingerprints and dates; never a secret."""
    workspace = context_of(context).open(quiet=as_json)
    found = Keyring.open(workspace.zone("keys")).describe()
    if as_json:
        print_json(found)
        return
    for key in found:
        print(f"{key['name']:<20} {key['kind']:<10} {key['fingerprint']:<18} made {key['created']}")


@keys_app.command("rotate")
def keys_rotate(context: typer.Context, name: str = typer.Argument(..., help="From `keys list`.")) -> None:
    """Replace a key. What was made with the one before stays readable and verifiable."""
    workspace = context_of(context).open()
    with workspace.writer_lock():
        Keyring.open(workspace.zone("keys")).rotate(name, now=now())
        audit_log(workspace, "pipeline").record("keys.rotate", name, purpose="")
    print(
        f"{name} rotated; senders need the new public key if this was the inbox key (`wardwatch keys list`)"
    )


# Vault


@vault_app.command("status")
def vault_status(context: typer.Context, as_json: bool = typer.Option(False, "--json")) -> None:
    """Per delivery: records, parts, issuing hospitals and items; no values."""
    workspace = context_of(context).open(quiet=as_json)
    found = vault.status(workspace.zone("vault"), _signers(workspace))
    if as_json:
        print_json(found)
        return
    for row in found:
        items = ", ".join(row["items"]) or "no identifiable items were delivered"
        print(f"{row['delivery_id']:<44} {row['rows']:>10,} records, {row['issuers']} issuers: {items}")
    if not found:
        print("the vault is empty")


@vault_app.command("verify")
def vault_verify(context: typer.Context) -> None:
    """Check every manifest, signature and file of the vault, without opening anything."""
    workspace = context_of(context).open()
    findings = vault.verify(workspace.zone("vault"), _signers(workspace))
    for finding in findings:
        print(f"{finding.delivery}: {finding.problem}")
    if findings:
        raise IntegrityError(
            f"{len(findings)} finding(s) in the vault", next_step="restore it from its backup"
        )
    print("every manifest, signature and file of the vault is as it was written")


def _signers(workspace: Workspace) -> dict[str, str]:
    return PublicKeys.load(workspace.zone("keys")).signers("manifest_signing")


# Audit


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


# Release


def _run_id(workspace: Workspace, run: str | None) -> str:
    found = run or publish.current_run(workspace.zone("published"))
    if found is None:
        raise WorkspaceError("nothing has been published yet", next_step="run `wardwatch nightly`")
    return found


@release_app.command("show")
def release_show(context: typer.Context, run: str = typer.Option(None, "--run")) -> None:
    """What the public set of a run would hold: what is suppressed, and what needs a discussion first."""
    from infra import release

    workspace = context_of(context).open()
    preview = release.show(workspace.zone("published"), _run_id(workspace, run))
    print(f"run {preview.run_id}, data to {preview.record_date:%-d %B %Y}")
    for name, rows in preview.counts.items():
        print(f"  {name.replace('_', ' '):<20} {rows:>8,} row(s)")
    for row in preview.discussion.iter_rows(named=True):
        print(f"  to be discussed first: {row['indicator']} {row['version']}, provider {row['provider']}")
    print("nothing was made public; `wardwatch release approve --reason TEXT` does that")


@release_app.command("approve")
def release_approve(
    context: typer.Context,
    reason: str = typer.Option(..., "--reason", metavar="TEXT"),
    run: str = typer.Option(None, "--run"),
) -> None:
    """Make the disclosure-controlled set of a run public, as the release manager."""
    from infra import release

    workspace = context_of(context).open()
    manager = Officers.load(workspace.zone("keys")).officer(RELEASE_MANAGER)
    audit = audit_log(workspace, RELEASE_MANAGER)
    run_id = _run_id(workspace, run)
    if audit.person != manager.person:
        audit.record("published.release", run_id, purpose="", decision="refuse", reason_code="person")
        raise NotPermitted(
            "only the release manager of this workspace may make a set public",
            next_step="the release manager does this, with WARDWATCH_PERSON set to their staff id",
        )
    require_purpose("release", RELEASE_MANAGER, "published.release", now().date())
    key = load_signing_key(workspace.zone("officers") / RELEASE_MANAGER / SIGNING_FILE)
    with workspace.writer_lock():
        audit.record("published.release", run_id, purpose="release", reason_code="begun")
        found = release.approve(
            workspace.zone("published"),
            run_id,
            person=manager.person,
            role=RELEASE_MANAGER,
            reason=reason,
            signing_key=key,
            approved_at=now(),
        )
        audit.record(
            "published.release",
            run_id,
            purpose="release",
            reason_code="released",
            counts={"files": len(found.outputs)},
        )
    print(f"released {len(found.outputs)} files: {found.folder}")


def register(app: typer.Typer) -> None:
    app.add_typer(keys_app, name="keys")
    app.add_typer(vault_app, name="vault")
    app.add_typer(audit_app, name="audit")
    app.add_typer(release_app, name="release")
