"""``wardwatch retention``: what has to go, holding it back, destroying it on a signed order, and what shows it.

An order is signed by two persons, each on the own machine: ``destroy --delivery ID --reason TEXT --out FILE`` makes
it, each signs with ``destroy --order FILE --key KEYFILE --out FILE``, and ``destroy --order FILE`` carries it out. In
a demonstration workspace the officers' keys lie in ``officers/`` and one command does all three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import typer

from flows.cli.acting import acting_as, audit_log_of
from flows.cli.context import audit_log, context_of, now, print_json, teller
from infra.audit import AuditLog
from infra.files import private_by_default, write_atomic
from infra.keyring import Keyring
from infra.lake import committed_deliveries
from infra.landing import Landing
from infra.officers import SIGNING_FILE, Officers, load_signing_key
from infra.register import Register
from infra.retention import certificate as certification
from infra.retention import holds, in_use, lake_removal, order, restored
from infra.retention.asset_register import as_csv, as_rows, asset_register
from infra.retention.destruction import Destruction
from infra.retention.documents import Certificate, Order, OrderedBy, Signed, read
from infra.retention.order import Held
from infra.retention.records import Records
from infra.retention.schedule import Due, next_review, reviews_due
from infra.retention.tombstones import Tombstones
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import IntegrityError, NotPermitted, UsageError
from schemas.retention_policy import Act, retention_policy

retention_app = typer.Typer(
    help="What has to be destroyed, holds, orders and certificates.", no_args_is_help=True
)

_REASON = typer.Option(..., "--reason", metavar="TEXT", help="Kept with the document; no personal data.")
_KEY = typer.Option(None, "--key", metavar="KEYFILE", help="Sign with this key file.")
_JSON = typer.Option(False, "--json", help="For a machine.")


class _Parts:
    """What the commands need of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.keyring = Keyring.open(workspace.zone("keys"))
        self.register = Register.load(workspace.zone("keys"))
        self.register.require_recorded(workspace.zone("audit"))
        officers = Officers.of(self.register, now())
        self.landing = Landing(workspace.zone("landing"), self.keyring, officers, now)
        self.policy = retention_policy()
        self.records = Records.of(workspace)

    def look(self) -> Held:
        rows = committed_deliveries(
            self.workspace.zone("lake"), self.keyring.lake_metadata_key, self.workspace.zone("tmp")
        )
        return Held.look(self.workspace, self.keyring, self.landing, self.register, self.policy, rows)

    def signing(
        self, act: Act, key_file: Path | None, action: str, object: str
    ) -> tuple[AuditLog, SigningKey]:
        """The audit log in the name of who signs, and the key. A refusal is recorded.

        With a key file whoever the register says it belongs to; without one, in a demonstration alone, who is asking.
        """
        roles = [role for roles in self.policy.sides(act).values() for role in roles]
        if key_file is None:
            if not self.register.demo:
                raise UsageError("name the key file to sign with", next_step="give --key KEYFILE")
            audit = acting_as(self.workspace, roles, action, object)
            return audit, _demo_key(self.workspace, audit.role)
        key = load_signing_key(key_file)
        try:
            person = self.register.signer(key.key_id, now()).person
            role = self.register.require_role(person, roles, now())
        except NotPermitted as refusal:
            audit_log(self.workspace, roles[0]).record(
                action, object, purpose="retention", decision="refuse", reason_code=refusal.reason_code
            )
            raise
        return audit_log_of(self.workspace, role, person), key

    def start(self, audit: AuditLog) -> None:
        """What everything that writes does first: complete what was begun, refuse what a backup brought back."""
        stones = restored.at_start(self.workspace, self.keyring, self.landing, audit, now)
        rows = committed_deliveries(
            self.workspace.zone("lake"), self.keyring.lake_metadata_key, self.workspace.zone("tmp")
        )
        restored.check_lake(self.workspace, rows, stones, audit, now())

    def destruction(self) -> Destruction:
        say, _ = teller()
        return Destruction.of(
            self.workspace,
            self.keyring,
            self.register,
            self.landing,
            audit_log(self.workspace, "pipeline"),
            now,
            say=say,
        )


def _demo_key(workspace: Workspace, role: str) -> SigningKey:
    return load_signing_key(workspace.zone("officers") / role / SIGNING_FILE)


@contextmanager
def _writing(workspace: Workspace) -> Iterator[None]:
    with private_by_default(), workspace.writer_lock():
        yield


# What has to go -------------------------------------------------------------------------------------------


@retention_app.command("due")
def due(
    context: typer.Context,
    as_json: bool = _JSON,
    everything: bool = typer.Option(False, "--all", help="Also what may be kept for long yet."),
) -> None:
    """What has to be destroyed and why, overdue first; and which rules their owners review this month."""
    parts = _Parts(context_of(context).open(quiet=as_json))
    today = now().date()
    found = [each for each in parts.look().dues(today) if everything or each.state != "kept"]
    if as_json:
        print_json({"today": today, "deliveries": [_row(each, today) for each in found], **_reviews(today)})
        return
    for each in found:
        print(_line(each, today))
    if not found:
        print("nothing is due")
    for rule in _reviews(today)["reviews"]:
        when = "this month" if rule["this_month"] else f"from {rule['next']}"
        print(f"review of rule {rule['rule']} ({', '.join(rule['datasets'])}): {when}")


def _row(due: Due, today: date) -> dict[str, Any]:
    return {**asdict(due), "days_over": due.days_over(today)}


def _line(due: Due, today: date) -> str:
    why = "superseded" if due.why == "superseded" else "end of retention"
    over = due.days_over(today)
    when = f"overdue by {over} day(s)" if over > 0 else f"due in {-over} day(s)"
    hold = ", under a hold" if due.held else ""
    return f"{due.delivery_id:<44} {due.status:<11} {when}: {why} {due.until}{hold}"


def _reviews(today: date) -> dict[str, list[dict[str, Any]]]:
    this_month = reviews_due(today)
    return {
        "reviews": [
            {
                "rule": rule.code,
                "datasets": list(rule.datasets),
                "months_kept": rule.months,
                "status": rule.status,
                "this_month": this_month[rule.code],
                "next": next_review(today, rule.review_months),
            }
            for rule in retention_policy().rules
        ]
    }


# Holding back, and taking out of use ------------------------------------------------------------------------


@retention_app.command("hold")
def hold(
    context: typer.Context,
    delivery: str = typer.Argument(..., metavar="DELIVERY"),
    reason: str = _REASON,
    lift: bool = typer.Option(False, "--lift", help="End the holds on this delivery."),
    key_file: Path = _KEY,
) -> None:
    """Hold a delivery back from destruction (litigation, an open case), or lift that; signed by the SIRO."""
    parts = _Parts(context_of(context).open())
    if delivery not in {each.delivery_id for each in parts.look().dues(now().date())}:
        raise UsageError(
            "there is no such delivery here", next_step="`wardwatch retention due --all` lists them"
        )
    action = holds.LIFT if lift else holds.HOLD
    audit, key = parts.signing("hold", key_file, action, delivery)
    with _writing(parts.workspace):
        put = holds.lift_hold if lift else holds.put_hold
        put(
            parts.records,
            delivery,
            reason,
            key,
            register=parts.register,
            policy=parts.policy,
            audit=audit,
            now=now(),
        )
    print(f"{delivery}: {'the hold is lifted' if lift else 'held; nothing of it is destroyed'}")


@retention_app.command("withdraw")
def withdraw(
    context: typer.Context,
    delivery: str = typer.Argument(..., metavar="DELIVERY"),
    reason: str = _REASON,
    key_file: Path = _KEY,
) -> None:
    """Take a delivery out of use, so that the next night publishes without it; signed by its owner."""
    parts = _Parts(context_of(context).open())
    audit, key = parts.signing("withdrawal", key_file, in_use.WITHDRAW, delivery)
    if not lake_removal.is_there(parts.workspace):
        raise UsageError("only a delivery that is in use can be taken out of use")
    with _writing(parts.workspace):
        parts.start(audit)
        with lake_removal.opened(parts.workspace, parts.keyring) as lake:
            in_use.withdraw(
                parts.workspace,
                lake,
                delivery,
                reason,
                key,
                register=parts.register,
                policy=parts.policy,
                audit=audit,
                now=now(),
            )
    print(f"{delivery}: out of use; `wardwatch nightly` publishes without it")


# Destroying -------------------------------------------------------------------------------------------------


@retention_app.command("destroy")
def destroy(
    context: typer.Context,
    deliveries: list[str] = typer.Option([], "--delivery", metavar="ID", help="May be given again."),
    reason: str = typer.Option("", "--reason", metavar="TEXT"),
    early: bool = typer.Option(False, "--early", help="Also before its time; the order says so."),
    order_file: Path = typer.Option(None, "--order", metavar="FILE", help="An order that was made before."),
    out: Path = typer.Option(
        None, "--out", metavar="FILE", help="Write the order instead of carrying it out."
    ),
    keys: list[Path] = typer.Option([], "--key", metavar="KEYFILE", help="Sign with it; may be given again."),
    again: bool = typer.Option(False, "--again", help="Destroy what a backup brought back."),
) -> None:
    """Make, sign or carry out a destruction order. It takes the SIRO's and the IAO's signature."""
    if again:
        if deliveries or order_file or out or keys:
            raise UsageError("--again stands alone: the orders are here already")
        _destroy_again(_Parts(context_of(context).open()))
        return
    if bool(deliveries) == bool(order_file):
        raise UsageError("give either --delivery ID (and --reason) or --order FILE")
    parts = _Parts(context_of(context).open())
    signed = _order(parts, deliveries, reason, early, order_file)
    signed = signed.sign(*(load_signing_key(path) for path in keys))
    if out is not None:
        write_atomic(out, signed.content)
        print(f"order {signed.document.id[:12]}, {len(signed.signatures)} signature(s): {out}")
        return
    if order_file is None and not keys:
        signed = _signed_in_a_demonstration(parts, signed)
    with _writing(parts.workspace):
        destruction = parts.destruction()
        parts.start(destruction.audit)
        _say(destruction.carry_out(signed))
        destruction.audit.checkpoint_with(parts.keyring.audit_signing_key)


def _order(
    parts: _Parts, deliveries: Sequence[str], reason: str, early: bool, order_file: Path | None
) -> Signed[Order]:
    if order_file is not None:
        return read(order_file, Order)
    return Signed(order.draft(parts.look(), deliveries, reason, now(), early=early))


def _signed_in_a_demonstration(parts: _Parts, signed: Signed[Order]) -> Signed[Order]:
    if not parts.register.demo:
        raise UsageError(
            "an order is signed by two persons before it is carried out",
            next_step="give --out FILE, have it signed (--order FILE --key KEYFILE --out FILE), then --order FILE",
        )
    return signed.sign(
        *(_demo_key(parts.workspace, roles[0]) for roles in parts.policy.sides("order").values())
    )


def _destroy_again(parts: _Parts) -> None:
    with _writing(parts.workspace):
        destruction = parts.destruction()
        made = destruction.complete_pending()
        tombstones = Tombstones.load(
            parts.records, parts.keyring.signers("manifest_signing"), parts.workspace.zone("audit")
        )
        rows = committed_deliveries(
            parts.workspace.zone("lake"), parts.keyring.lake_metadata_key, parts.workspace.zone("tmp")
        )
        back = restored.destroyed_and_here(parts.workspace, tombstones, rows)
        made += destruction.destroy_again(back)
        destruction.audit.checkpoint_with(parts.keyring.audit_signing_key)
    for certificate in made:
        _say(certificate)
    if not made:
        print("nothing that was destroyed is here again")


def _say(certificate: Signed[Certificate]) -> None:
    said = certificate.document
    print(f"certificate: retention/certificates/{certification.certificate_name(said)}")
    print("what must go from backups and copies as well:")
    for line in said.backups:
        print(f"  {line}")


# What shows it ----------------------------------------------------------------------------------------------


@retention_app.command("certificates")
def certificates(
    context: typer.Context,
    verify: bool = typer.Option(False, "--verify", help="Fail if one of them is not what was signed."),
    as_json: bool = _JSON,
    witness: str = typer.Option(
        "", "--witness", metavar="ORDER", help="Countersign that order's certificate."
    ),
    key_file: Path = _KEY,
) -> None:
    """The destruction certificates, verified; or countersign one as a witness."""
    parts = _Parts(context_of(context).open(quiet=as_json))
    found = list(certification.certificates(parts.workspace, parts.register, parts.policy))
    if witness:
        _witness(parts, found, witness, key_file)
        return
    if as_json:
        print_json([_checked_row(each) for each in found])
    else:
        for each in found:
            print(_checked_line(each))
        if not found:
            print("no destruction certificates yet")
    wrong = [each for each in found if each.problem]
    if wrong and verify:
        raise IntegrityError(
            f"{len(wrong)} of {len(found)} certificate(s) do not verify",
            next_step="raise an incident, and restore retention/ from its backup",
        )


def _checked_row(checked: certification.Checked) -> dict[str, Any]:
    said = checked.signed.document if checked.signed else None
    return {
        "file": checked.path.name,
        "verified": not checked.problem,
        "problem": checked.problem,
        "order": said.order_id if said else None,
        "deliveries": [delivery.delivery_id for delivery in said.destroyed] if said else [],
        "ordered_by": [_who(person) for person in said.ordered_by] if said else [],
        "finished_at": said.finished_at if said else None,
        "witnesses": list(checked.witnesses),
        "backups": list(said.backups) if said else [],
    }


def _who(person: OrderedBy) -> dict[str, str]:
    """A person of a certificate as text."""
    return {"person": person.person, "role": person.role}


def _checked_line(checked: certification.Checked) -> str:
    if checked.problem or checked.signed is None:
        return f"{checked.path.name}: {checked.problem}"
    said = checked.signed.document
    ids = ", ".join(delivery.delivery_id for delivery in said.destroyed)
    seen = f"witnessed by {', '.join(checked.witnesses)}" if checked.witnesses else "not witnessed yet"
    return f"{said.finished_at} order {said.order_id[:12]}: {ids}; verified, {seen}"


def _witness(
    parts: _Parts, found: Sequence[certification.Checked], wanted: str, key_file: Path | None
) -> None:
    fitting = [
        each for each in found if each.signed and each.signed.document.order_id.startswith(wanted) and wanted
    ]
    if len({each.signed.document.order_id for each in fitting if each.signed}) != 1:
        raise UsageError("there is no certificate of that order, or of several", next_step="name it in full")
    audit, key = parts.signing("witness", key_file, certification.WITNESS, wanted)
    with _writing(parts.workspace):
        for each in fitting:
            if audit.person not in each.witnesses:
                certification.witness(
                    each,
                    key,
                    records=parts.records,
                    register=parts.register,
                    policy=parts.policy,
                    audit=audit,
                    now=now(),
                )
    print(f"witnessed by {audit.person}")


@retention_app.command("assets")
def assets(
    context: typer.Context,
    as_json: bool = _JSON,
    csv: bool = typer.Option(False, "--csv", help="For a spreadsheet."),
) -> None:
    """The Information Asset Register: every zone and delivery, its owner, marking, format, place and retention."""
    parts = _Parts(context_of(context).open(quiet=as_json or csv))
    held = parts.look()
    found = asset_register(held, held.dues(now().date()))
    if as_json:
        print_json(as_rows(found))
    elif csv:
        print(as_csv(found), end="")
    else:
        for asset in found:
            print(f"{asset.asset:<44} {asset.owner:<19} {asset.sensitivity:<19} {asset.retention}")


def register(app: typer.Typer) -> None:
    app.add_typer(retention_app, name="retention")
