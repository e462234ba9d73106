"""``wardwatch init`` and ``wardwatch status``."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import typer

from flows.cli.context import context_of, now, print_json
from infra import publish
from infra.inbox import waiting
from infra.incidents import list_incidents
from infra.keyring import Keyring
from infra.lake import committed_deliveries
from infra.landing import Landing
from infra.night import last_manifest
from infra.officers import Officers
from infra.provisioning import provision
from infra.purposes import overdue_purposes
from infra.receipts import safe_name
from infra.register import Register
from infra.retention.order import Held
from infra.retention.schedule import overdue_lines
from infra.workspace import Workspace
from schemas.retention_policy import retention_policy


def init(context: typer.Context) -> None:
    """Make a workspace: settings, keys, a demo agreement and demo roles."""
    root = context_of(context).path()
    made = provision(root, now())
    print(f"workspace made in {root}")
    print("demo agreement and demo roles: for synthetic and artificial data only")
    print(f"senders encrypt to this public key (age): {made.keyring.inbox_recipient}")
    print("or, with OpenPGP, to the certificate in keys/inbox-openpgp.asc")
    print("the pipeline's unlock key is keys/unlock.key; in production keep it outside the workspace")
    print("(WARDWATCH_UNLOCK_KEY_FILE), and the officers' keys on the officers' own machines")


def _collect(workspace: Workspace, today: date) -> dict[str, Any]:
    keyring = Keyring.open(workspace.zone("keys"))
    register = Register.load(workspace.zone("keys"))
    landing = Landing(workspace.zone("landing"), keyring, Officers.of(register, now()), now)
    rows = committed_deliveries(workspace.zone("lake"), keyring.lake_metadata_key, workspace.zone("tmp"))
    known = {row.delivery_id for row in rows}
    last = last_manifest(workspace)
    wrong = [
        f"{row.delivery_id}: refused when it was read; `wardwatch incidents` and the last run say why"
        for row in rows
        if row.status == "refused"
    ]
    wrong += [
        f"incident {incident.id}: {incident.type.value}"
        for incident in list_incidents(workspace.zone("incidents"), only_open=True)
    ]
    wrong += [f"purpose {purpose.code}: its review is overdue" for purpose in overdue_purposes(today)]
    held = Held.look(workspace, keyring, landing, register, retention_policy(), rows)
    wrong += overdue_lines(held.dues(today))
    return {
        "inbox": [
            {"name": safe_name(entry.path.name), "state": entry.state}
            for entry in waiting(workspace.zone("inbox"))
        ],
        "landed_not_ingested": [r.delivery_id for r in landing.held() if r.delivery_id not in known],
        "deliveries": [
            {
                "delivery": row.delivery_id,
                "dataset": row.dataset,
                "period": row.period,
                "status": row.status,
                "rows_in": row.rows_in,
                "rows_kept": row.rows_kept,
                "rows_quarantined": row.rows_quarantined,
                "rows_vaulted": row.rows_vaulted,
                "retain_until": row.retain_until.isoformat(),
                "landing_readable": _readable(landing, row.delivery_id),
            }
            for row in rows
        ],
        "last_run": None
        if last is None
        else {key: last[key] for key in ("run_id", "purpose", "started_at", "ended_at", "problems")},
        "published": publish.current_run(workspace.zone("published")),
        "wrong": wrong,
    }


def _readable(landing: Landing, delivery_id: str) -> bool:
    return (landing.root / delivery_id).is_dir() and landing.readable(delivery_id)


def status(
    context: typer.Context, as_json: bool = typer.Option(False, "--json", help="For a machine.")
) -> None:
    """Deliveries, last run, what is due, what is wrong."""
    workspace = context_of(context).open(quiet=as_json)
    found = _collect(workspace, now().date())
    if as_json:
        print_json(found)
        return
    _print_status(found, workspace.root)


def _print_status(found: dict[str, Any], root: Path) -> None:
    print(f"deliveries ({len(found['deliveries'])})")
    for row in found["deliveries"]:
        print(
            f"  {row['delivery']:<44} {row['status']:<11}{row['rows_kept']:>12,} of {row['rows_in']:,} records"
            + (f", {row['rows_quarantined']:,} quarantined" if row["rows_quarantined"] else "")
        )
    due = [f"in the inbox: {entry['name']} ({entry['state']})" for entry in found["inbox"]]
    due += [f"landed, not ingested: {delivery}" for delivery in found["landed_not_ingested"]]
    print("due\n" + "\n".join(f"  {line}" for line in due) if due else "due: nothing")
    last = found["last_run"]
    print(
        f"last run: {last['run_id']} ({last['purpose']}), ended {last['ended_at']}"
        if last
        else "last run: none yet"
    )
    print(f"published: {found['published'] or 'nothing yet'}")
    print(
        "wrong\n" + "\n".join(f"  {line}" for line in found["wrong"]) if found["wrong"] else "wrong: nothing"
    )


def register(app: typer.Typer) -> None:
    app.command("init")(init)
    app.command("status")(status)
