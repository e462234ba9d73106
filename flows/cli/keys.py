"""``wardwatch keys``: the keys of the pipeline."""

from __future__ import annotations

import typer

from flows.cli.context import audit_log, context_of, now, print_json
from infra.keyring import Keyring

keys_app = typer.Typer(help="The pipeline's keys.", no_args_is_help=True)


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


def register(app: typer.Typer) -> None:
    app.add_typer(keys_app, name="keys")
