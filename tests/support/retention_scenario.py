"""A destruction as a piece of work that a kill may interrupt, for the kill test.

One delivery was taken out of use and published without; its agreement then ended. The order is signed beforehand, for
what is killed and begun again is the carrying out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import yaml

from infra.audit import AuditLog
from infra.keyring import Keyring
from infra.lake import committed_deliveries
from infra.landing import Landing
from infra.officers import SIGNING_FILE, Officers, load_signing_key
from infra.register import Register
from infra.retention import in_use, lake_removal
from infra.retention.certificate import certificates
from infra.retention.destruction import Destruction
from infra.retention.documents import Order, Signed, read
from infra.retention.order import Held, draft
from infra.retention.records import Records
from infra.retention.restored import at_start, check_lake
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.retention_policy import retention_policy
from tests.support.convergence import published_result
from tests.support.workspaces import EVENING, Clock, Extracts, night

ORDERED = EVENING + timedelta(days=39)
ORDER_FILE = "order.json"
_REASON = "the agreement has ended"


def _landing(workspace: Workspace, moment: datetime) -> Landing:
    keyring, register = Keyring.open(workspace.zone("keys")), Register.load(workspace.zone("keys"))
    return Landing(workspace.zone("landing"), keyring, Officers.of(register, moment), Clock(moment))


def _audit(workspace: Workspace, person: str, role: str, moment: datetime) -> AuditLog:
    return AuditLog(workspace.zone("audit"), Clock(moment), person, role)


def _key(workspace: Workspace, role: str) -> SigningKey:
    return load_signing_key(workspace.zone("officers") / role / SIGNING_FILE)


def prepare(workspace: Workspace, _plain: Extracts) -> None:
    keyring, register = Keyring.open(workspace.zone("keys")), Register.load(workspace.zone("keys"))
    landing = _landing(workspace, EVENING)
    delivery = next(r.delivery_id for r in landing.held() if r.dataset == "ons_deaths")
    with lake_removal.opened(workspace, keyring) as lake:
        in_use.withdraw(
            workspace,
            lake,
            delivery,
            _REASON,
            _key(workspace, "iao"),
            register=register,
            policy=retention_policy(),
            audit=_audit(workspace, "demo-iao", "iao", EVENING),
            now=EVENING,
        )
    night(workspace, Clock(EVENING + timedelta(days=1)))
    settings = yaml.safe_load((workspace.root / "settings.yaml").read_text(encoding="utf-8"))
    settings["agreement"]["ends"] = (ORDERED - timedelta(days=2)).date().isoformat()
    (workspace.root / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    workspace = Workspace.open(workspace.root)
    rows = committed_deliveries(workspace.zone("lake"), keyring.lake_metadata_key, workspace.zone("tmp"))
    held = Held.look(workspace, keyring, landing, register, retention_policy(), rows)
    order = Signed(draft(held, [delivery], _REASON, ORDERED))
    signed = order.sign(_key(workspace, "siro"), _key(workspace, "iao"))
    (workspace.root / ORDER_FILE).write_bytes(signed.content)


def work(workspace: Workspace, moment: datetime) -> None:
    keyring, register = Keyring.open(workspace.zone("keys")), Register.load(workspace.zone("keys"))
    audit = _audit(workspace, "demo-pipeline", "pipeline", moment)
    landing = _landing(workspace, moment)
    with workspace.writer_lock():
        tombstones = at_start(workspace, keyring, landing, audit, Clock(moment))
        rows = committed_deliveries(workspace.zone("lake"), keyring.lake_metadata_key, workspace.zone("tmp"))
        check_lake(workspace, rows, tombstones, audit, moment)
        destruction = Destruction.of(
            workspace, keyring, register, landing, audit, Clock(moment), counter=lambda: 0.0
        )
        destruction.carry_out(read(workspace.root / ORDER_FILE, Order))


def result(workspace: Workspace) -> dict[str, str]:
    """What is published stays; one delivery is gone, with one certificate that holds."""
    register = Register.load(workspace.zone("keys"))
    found = list(certificates(workspace, register, retention_policy()))
    gone = [d.delivery_id for each in found if each.signed for d in each.signed.document.destroyed]
    return {
        **published_result(workspace.zone("published")),
        "gone": " ".join(gone),
        "problems": " ".join(each.problem for each in found),
        "documents": str(len(list(Records.of(workspace).root.rglob("*.json")))),
    }
