"""``wardwatch vault``: what is in the vault, and whether it is untouched."""

from __future__ import annotations

import typer

from flows.cli.context import context_of, print_json
from infra import vault
from infra.keyring import PublicKeys
from infra.workspace import Workspace
from schemas.errors import IntegrityError

vault_app = typer.Typer(help="The vault: what is in it, and whether it is untouched.", no_args_is_help=True)


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


def register(app: typer.Typer) -> None:
    app.add_typer(vault_app, name="vault")
