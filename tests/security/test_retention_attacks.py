"""Retention and destruction under attack: attacks and faults 104, 105, 106, 110, 111, 112 and 115, and who may order.

The workspace after two nights: one delivery was superseded, one was taken out of use, and then the agreement ended.
Indicators play no part here, so its nights compute none.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import commit_points, publish
from infra.audit import AuditLog, read, unfinished
from infra.audit_verify import tampering
from infra.audit_verify import verify as verify_audit
from infra.engine import open_engine
from infra.incidents import list_incidents
from infra.keyring import Keyring
from infra.lake import CATALOG, READER_CATALOG, committed_deliveries
from infra.landing import Landing
from infra.officers import IDENTITY_FILE, SIGNING_FILE, Officers, load_identity, load_signing_key
from infra.register import Register
from infra.retention import holds, in_use, lake_removal, restored
from infra.retention.certificate import certificates, witness
from infra.retention.destruction import Destruction
from infra.retention.documents import Certificate, Hold, Order, Signed, parse
from infra.retention.order import Held, draft
from infra.retention.records import Records
from infra.retention.tombstones import Tombstones, refuse_tombstoned
from infra.review import documents as review
from infra.signing import SigningKey
from infra.vault import read_manifest, verify
from infra.vault_opening import open_with_officers
from infra.workspace import Workspace
from schemas.errors import CannotOpen, IntegrityError, NotPermitted, UsageError
from schemas.retention_policy import retention_policy
from tests.support.convergence import published_result, unfinished_files
from tests.support.workspaces import (
    EVENING,
    Clock,
    Extracts,
    computing_nothing,
    copy_workspace,
    drop,
    night,
    tree,
)

POLICY = retention_policy()
SECOND_NIGHT = EVENING + timedelta(days=1)
LATE = EVENING + timedelta(days=50)
REASON = "the agreement has ended"


@dataclass(frozen=True)
class Destroyed:
    """The workspace after ``site.withdrawn`` was destroyed. ``keys``: path -> key of the lake's files before."""

    site: Site
    certificate: Signed[Certificate]
    backup: Path
    keys: dict[str, str]
    others: dict[str, Any]
    published: dict[str, str]


@dataclass(frozen=True)
class Site:
    """A workspace in which ``withdrawn`` and ``superseded`` are overdue and may be destroyed."""

    workspace: Workspace
    withdrawn: str
    superseded: str

    @property
    def keyring(self) -> Keyring:
        return Keyring.open(self.workspace.zone("keys"))

    @property
    def register(self) -> Register:
        return Register.load(self.workspace.zone("keys"))

    @property
    def landing(self) -> Landing:
        officers = Officers.load(self.workspace.zone("keys"))
        return Landing(self.workspace.zone("landing"), self.keyring, officers, Clock(LATE))

    @property
    def records(self) -> Records:
        return Records.of(self.workspace)

    @property
    def signers(self) -> dict[str, str]:
        return self.keyring.signers("manifest_signing")

    def audit(self, role: str = "pipeline", moment: datetime = LATE) -> AuditLog:
        return AuditLog(self.workspace.zone("audit"), lambda: moment, f"demo-{role.replace('_', '-')}", role)

    def key(self, role: str) -> SigningKey:
        return load_signing_key(self.workspace.zone("officers") / role / SIGNING_FILE)

    def rows(self) -> dict[str, Any]:
        lake, tmp = self.workspace.zone("lake"), self.workspace.zone("tmp")
        found = committed_deliveries(lake, self.keyring.lake_metadata_key, tmp)
        return {row.delivery_id: row for row in found}

    def held(self) -> Held:
        rows = list(self.rows().values())
        return Held.look(self.workspace, self.keyring, self.landing, self.register, POLICY, rows)

    def order(
        self, *delivery_ids: str, signed_by: tuple[str, ...] = ("siro", "iao"), **options: Any
    ) -> Signed[Order]:
        found = Signed(draft(self.held(), delivery_ids or (self.withdrawn,), REASON, LATE, **options))
        return found.sign(*(self.key(role) for role in signed_by))

    def destruction(self, clock: Callable[[], datetime] = Clock(LATE), **options: Any) -> Destruction:  # noqa: B008
        options.setdefault("counter", lambda: 0.0)
        return Destruction.of(
            self.workspace, self.keyring, self.register, self.landing, self.audit(), clock, **options
        )

    def destroy(self, *delivery_ids: str) -> Signed[Certificate]:
        return self.destruction().carry_out(self.order(*delivery_ids))

    def tombstones(self) -> Tombstones:
        return Tombstones.load(self.records, self.signers, self.workspace.zone("audit"))

    def start(self) -> Tombstones:
        """What a night does first."""
        audit = self.audit()
        stones = restored.at_start(self.workspace, self.keyring, self.landing, audit, Clock(LATE))
        restored.check_lake(self.workspace, list(self.rows().values()), stones, audit, LATE)
        return stones

    def put_hold(self, key: SigningKey, delivery_id: str = "") -> Signed[Hold]:
        return holds.put_hold(
            self.records,
            delivery_id or self.withdrawn,
            "letter before action of a claimant",
            key,
            register=self.register,
            policy=POLICY,
            audit=self.audit("siro"),
            now=LATE,
        )

    def lift_hold(self, key: SigningKey) -> list[Signed[Hold]]:
        return holds.lift_hold(
            self.records,
            self.withdrawn,
            "the claim was withdrawn",
            key,
            register=self.register,
            policy=POLICY,
            audit=self.audit("siro"),
            now=LATE,
        )

    def refusals(self) -> list[str]:
        events = read(self.workspace.zone("audit"), action="retention", decision="refuse")
        return [event.reason_code for event in events]

    def places_of(self, delivery_id: str) -> list[str]:
        """Every file of landing, vault, linkage and lake that bears the delivery's name."""
        return [
            path.relative_to(self.workspace.root).as_posix()
            for zone in ("landing", "vault", "linkage", "lake", "tmp")
            for path in tree(self.workspace.zone(zone))
            if delivery_id in path.as_posix()
        ]


@pytest.fixture(scope="module")
def template(
    finished_template: Workspace, extracts: Extracts, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    workspace = copy_workspace(finished_template, tmp_path_factory.mktemp("retention") / "workspace")
    withdrawn = _named(workspace, "hes_op-")
    superseded = _named(workspace, "hes_apc-202206-")
    site = Site(workspace, withdrawn, superseded)
    with lake_removal.opened(workspace, site.keyring) as lake:
        in_use.withdraw(
            workspace,
            lake,
            withdrawn,
            REASON,
            site.key("iao"),
            register=site.register,
            policy=POLICY,
            audit=site.audit("iao", SECOND_NIGHT),
            now=SECOND_NIGHT,
        )
    drop(workspace, extracts.named("HES_APC_202209"), before=SECOND_NIGHT)
    quiet_night(workspace, SECOND_NIGHT)
    end_the_agreement(workspace, "2026-12-31")
    assert {row.status for row in site.rows().values()} == {"current", "withdrawn", "superseded"}
    return site


@pytest.fixture
def site(template: Site, tmp_path: Path) -> Site:
    workspace = copy_workspace(template.workspace, tmp_path / "workspace")
    return Site(workspace, template.withdrawn, template.superseded)


def _named(workspace: Workspace, start: str) -> str:
    (found,) = [path.name for path in workspace.zone("landing").iterdir() if path.name.startswith(start)]
    return found


def quiet_night(workspace: Workspace, moment: datetime) -> None:
    with computing_nothing():
        outcome = night(workspace, Clock(moment))
    assert outcome.run_id, "the night has to publish"


def end_the_agreement(workspace: Workspace, day: str) -> None:
    path = workspace.root / "settings.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["agreement"]["ends"] = day
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    object.__setattr__(workspace, "settings", Workspace.open(workspace.root).settings)


def put_back(backup: Path, site: Site, *places: str) -> None:
    """Restore folders and files of a backup of the workspace over it."""
    for place in places:
        target = site.workspace.root / place
        if target.is_dir():
            shutil.rmtree(target)
        if (backup / place).is_dir():
            shutil.copytree(backup / place, target, symlinks=True)
        else:
            shutil.copy2(backup / place, target)


@pytest.fixture
def backup(site: Site, tmp_path: Path) -> Path:
    """A backup of the whole workspace before anything is destroyed."""
    return copy_workspace(site.workspace, tmp_path / "backup").root


def file_keys(workspace: Workspace, keyring: Keyring, catalog: str) -> dict[str, str]:
    """Path -> key of every data file that a catalog of the lake knows, read past DuckLake."""
    connection = open_engine("300MB", workspace.zone("tmp"))
    key = str.__str__(keyring.lake_metadata_key)
    try:
        connection.execute(
            f"ATTACH '{workspace.zone('lake') / catalog}' AS found (ENCRYPTION_KEY '{key}', READ_ONLY)"
        )
        return dict(
            connection.execute("SELECT path, encryption_key FROM found.ducklake_data_file").fetchall()
        )
    finally:
        connection.close()


@pytest.fixture(scope="module")
def destroyed_template(template: Site, tmp_path_factory: pytest.TempPathFactory) -> Destroyed:
    folder = tmp_path_factory.mktemp("destroyed")
    backup = copy_workspace(template.workspace, folder / "backup").root
    site = Site(
        copy_workspace(template.workspace, folder / "workspace"), template.withdrawn, template.superseded
    )
    keys = file_keys(site.workspace, site.keyring, CATALOG)
    others = {name: row for name, row in site.rows().items() if name != site.withdrawn}
    published = published_result(site.workspace.zone("published"))
    assert site.places_of(site.withdrawn), "it was there"
    return Destroyed(site, site.destroy(), backup, keys, others, published)


@pytest.fixture
def destroyed(destroyed_template: Destroyed, tmp_path: Path) -> Destroyed:
    """A copy of it for this test."""
    given = destroyed_template
    workspace = copy_workspace(given.site.workspace, tmp_path / "workspace")
    site = Site(workspace, given.site.withdrawn, given.site.superseded)
    return Destroyed(site, given.certificate, given.backup, given.keys, given.others, given.published)


# What a destruction leaves -----------------------------------------------------------------------------


def test_nothing_of_a_destroyed_delivery_is_left_and_the_rest_is_as_it_was(destroyed: Destroyed) -> None:
    site, before = destroyed.site, destroyed.keys
    assert site.places_of(site.withdrawn) == []
    assert site.rows() == destroyed.others
    assert published_result(site.workspace.zone("published")) == destroyed.published, "aggregates stay"
    assert not tampering(verify_audit(site.workspace.zone("audit"), None)), "the audit log stays whole"
    assert not list(unfinished_files(site.workspace))
    assert verify(site.workspace.zone("vault"), site.signers) == []
    (delivery,) = destroyed.certificate.document.destroyed
    gone = {Path(path).name for path in delivery.lake.files}
    assert gone, "the lake held files of it in its history"
    for catalog in (CATALOG, READER_CATALOG):
        after = file_keys(site.workspace, site.keyring, catalog)
        assert not gone & set(after), f"{catalog} knows no file of it"
        assert not {before[name] for name in gone} & set(after.values()), f"{catalog} holds no key of it"
    files = {path.name for path in tree(site.workspace.zone("lake") / "data")}
    assert not gone & files, "no data file of it is left"
    site.start()


def test_no_document_of_a_destruction_holds_a_key(destroyed: Destroyed) -> None:
    written = b"".join(path.read_bytes() for path in tree(destroyed.site.records.root))
    assert destroyed.certificate.document.destroyed[0].vault[0].keys, "the vault's keys are named by digest"
    assert destroyed.keys
    assert not [key for key in destroyed.keys.values() if key.encode() in written]


def test_a_certificate_says_what_must_go_from_the_backups_too(destroyed: Destroyed) -> None:
    said, gone = " ".join(destroyed.certificate.document.backups), destroyed.site.withdrawn
    for place in (f"vault/{gone}", f"landing/{gone}", "lake/ as a whole", "case reviews"):
        assert place in said, f"{place} is named"


def test_a_superseded_delivery_goes_and_its_successor_stays_in_use(site: Site) -> None:
    successor = site.rows()[site.superseded].superseded_by
    with lake_removal.opened(site.workspace, site.keyring) as lake:
        count = "select count(*) from lake.hes_apc"
        rows = lake._connection.execute(count).fetchall()
    (delivery,) = site.destroy(site.superseded).document.destroyed
    assert delivery.lake.files, "the lake's history held its table"
    assert site.places_of(site.superseded) == []
    assert site.rows()[successor].status == "current"
    with lake_removal.opened(site.workspace, site.keyring) as lake:
        assert lake._connection.execute(count).fetchall() == rows, "no record in use went with it"


def test_two_deliveries_go_on_one_order(site: Site) -> None:
    certificate = site.destroy(site.withdrawn, site.superseded)
    assert certificate.document.tombstones == (1, 2)
    assert site.places_of(site.withdrawn) + site.places_of(site.superseded) == []


# 104: killed anywhere ----------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands in for a kill: nothing catches it but what cleans up."""


def test_a_destruction_killed_at_every_point_in_turn_is_completed_by_the_next_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = site.order()
    killed_at: set[str] = set()

    def reached(name: str) -> None:
        if name.startswith(("retention.", "lake.")) and name not in killed_at:
            killed_at.add(name)
            raise Killed

    monkeypatch.setattr(commit_points, "reached", reached)
    for _attempt in range(60):
        try:
            site.destruction().carry_out(order)
            break
        except Killed:
            if site.withdrawn not in site.tombstones():
                continue  # not begun: everything is as it was
            with pytest.raises(IntegrityError):
                refuse_tombstoned(site.workspace.zone("vault"), site.withdrawn, site.signers)
    else:
        raise AssertionError("the destruction never came to its end")

    expected = {
        "retention.record.before",
        "retention.tombstone.before",
        "retention.tombstone.after",
        "retention.key.before",
        "retention.key.after",
        "retention.catalog.before",
        "retention.catalog.after",
        "retention.container.before",
        "retention.container.renamed",
        "retention.container.after",
        "lake.commit.before",
        "lake.commit.after",
    }
    assert expected <= killed_at
    assert site.places_of(site.withdrawn) == []
    assert [checked.problem for checked in certificates(site.workspace, site.register, POLICY)] == [""]
    assert list(site.tombstones()) == [site.withdrawn]
    site.start()
    assert unfinished(site.workspace.zone("audit"), ["retention"]) == []
    assert not list(unfinished_files(site.workspace))


def test_what_was_begun_is_completed_by_whatever_writes_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(name: str) -> None:
        if name == "retention.key.after":
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(commit_points, "reached", reached)
        with pytest.raises(Killed):
            site.destroy()
    assert site.places_of(site.withdrawn), "half of it is there"
    site.start()
    assert site.places_of(site.withdrawn) == []
    assert site.start() is not None


# 105: yesterday's backup -------------------------------------------------------------------------------


def test_a_vault_of_another_day_than_the_lake_is_noticed(site: Site, finished_template: Workspace) -> None:
    put_back(finished_template.root, site, "vault")
    with pytest.raises(IntegrityError, match="a backup was put back"):
        site.start()
    (incident,) = list_incidents(site.workspace.zone("incidents"))
    assert incident.type.value == "integrity_failure"
    with pytest.raises(IntegrityError):
        site.start()
    assert len(list_incidents(site.workspace.zone("incidents"))) == 1, "one incident, however often it is met"


def test_vault_and_lake_of_yesterday_contradict_the_audit_log(
    site: Site, finished_template: Workspace
) -> None:
    put_back(finished_template.root, site, "vault", "lake", "landing", "linkage")
    with pytest.raises(IntegrityError, match="the audit log says that it was committed"):
        site.start()


def test_an_earlier_vault_of_a_delivery_than_the_audit_log_states_is_noticed(site: Site) -> None:
    site.audit().record(
        "lake.write", site.superseded, purpose="backfill", digests={"vault_manifest": "ab" * 32}
    )
    found = restored.rolled_back(site.workspace, list(site.rows().values()), [])
    assert [(each.delivery_id, "earlier vault" in each.what) for each in found] == [(site.superseded, True)]


def test_a_workspace_as_it_should_be_raises_nothing(site: Site) -> None:
    assert restored.rolled_back(site.workspace, list(site.rows().values()), []) == []
    assert list(site.start()) == []


# 106: the clock ----------------------------------------------------------------------------------------


def test_a_clock_that_jumps_after_the_decision_stops_it_before_anything_goes(site: Site) -> None:
    moments = iter([LATE, LATE + timedelta(days=400)])
    with pytest.raises(NotPermitted) as refusal:
        site.destruction(lambda: next(moments)).carry_out(site.order())
    assert refusal.value.reason_code == "clock_moved"
    assert list(site.tombstones()) == []
    assert site.places_of(site.withdrawn)


def test_a_delivery_that_is_not_due_by_the_clock_of_use_is_not_destroyed(site: Site) -> None:
    order = site.order()
    end_the_agreement(site.workspace, "2028-12-31")
    with pytest.raises(NotPermitted) as refusal:
        site.destruction().carry_out(order)
    assert refusal.value.reason_code == "not_due"
    assert site.refusals() == ["not_due"]


def test_an_order_ends_after_two_weeks_and_is_not_good_before_it_was_made(site: Site) -> None:
    order = site.order()
    for moment, reason in ((LATE - timedelta(days=9), "not_yet"), (LATE + timedelta(days=14), "expired")):
        with pytest.raises(NotPermitted) as refusal:
            site.destruction(Clock(moment)).carry_out(order)
        assert refusal.value.reason_code == reason


def test_what_may_still_be_kept_goes_only_if_the_order_says_that_it_is_early(site: Site) -> None:
    end_the_agreement(site.workspace, "2028-12-31")
    with pytest.raises(UsageError, match="may be kept until"):
        site.order()
    order = site.order(early=True)
    assert order.document.deliveries[0].ground == "before_its_time"
    site.destruction().carry_out(order)
    assert site.places_of(site.withdrawn) == []


# 110: shred, then open from a backup -------------------------------------------------------------------


def test_a_vault_without_its_shares_opens_for_nobody(site: Site, backup: Path) -> None:
    """The containers may lie in any backup: without the keys they are noise, for both officers together too."""
    before = backup / "vault" / site.withdrawn
    issuer, columns = a_part(before, site.signers)
    officers = site.workspace.zone("officers")
    guardian, siro = (
        load_identity(officers / role / IDENTITY_FILE) for role in ("caldicott_guardian", "siro")
    )
    assert open_with_officers(before, guardian, siro, issuer, columns, site.signers).height > 0, (
        "it opened before"
    )
    for path in before.glob("shares-*"):
        path.unlink()
    with pytest.raises((IntegrityError, CannotOpen)):
        open_with_officers(before, guardian, siro, issuer, columns, site.signers)


def a_part(folder: Path, signers: dict[str, str]) -> tuple[str, list[str]]:
    manifest = read_manifest(folder, signers)
    return manifest["parts"][0]["issuer"], manifest["columns"][1:2]


@pytest.mark.parametrize(
    ("zones", "says"),
    [
        (("vault",), "vault/"),
        (("landing",), "landing/"),
        (("lake",), "the lake has it again"),
        (("vault", "landing", "linkage", "lake"), "although it was destroyed"),
    ],
)
def test_a_backup_does_not_bring_a_destroyed_delivery_back(
    destroyed: Destroyed, zones: tuple[str, ...], says: str
) -> None:
    site = destroyed.site
    put_back(destroyed.backup, site, *zones)
    with pytest.raises(IntegrityError, match="although it was destroyed") as refusal:
        site.start()
    assert says in refusal.value.message
    assert "destroy --again" in refusal.value.next_step
    with pytest.raises(IntegrityError, match="was destroyed on a signed order"):
        refuse_tombstoned(site.workspace.zone("vault"), site.withdrawn, site.signers)
    back = restored.destroyed_and_here(site.workspace, site.tombstones(), list(site.rows().values()))
    assert back == [site.withdrawn]


def test_what_a_backup_brought_back_is_destroyed_again_without_another_order(destroyed: Destroyed) -> None:
    site = destroyed.site
    put_back(destroyed.backup, site, "vault", "landing", "linkage", "lake")
    (again,) = site.destruction().destroy_again([site.withdrawn])
    assert again.document.again == 1
    assert site.places_of(site.withdrawn) == []
    assert site.withdrawn not in site.rows()
    assert problems(site) == ["", ""], "both certificates verify"
    site.start()


def test_the_list_of_the_destroyed_cannot_be_rolled_back_with_the_vault(destroyed: Destroyed) -> None:
    site = destroyed.site
    shutil.rmtree(site.records.root)
    put_back(destroyed.backup, site, "vault", "landing", "lake")
    with pytest.raises(IntegrityError, match="lacks an entry"):
        site.start()


# 111: holds --------------------------------------------------------------------------------------------


def test_nothing_under_a_hold_is_destroyed_until_the_siro_lifts_it(site: Site) -> None:
    order = site.order()
    site.put_hold(site.key("siro"))
    with pytest.raises(NotPermitted, match="is under a hold") as refusal:
        site.destruction().carry_out(order)
    assert refusal.value.reason_code == "held"
    assert site.refusals() == ["held"], "the refusal is in the audit log"
    assert site.places_of(site.withdrawn)
    site.lift_hold(site.key("siro"))
    site.destruction().carry_out(order)
    assert site.places_of(site.withdrawn) == []


@pytest.mark.parametrize("role", ["iao", "intelligence_analyst", "caldicott_guardian"])
def test_nobody_but_a_siro_holds_or_lifts(site: Site, role: str) -> None:
    with pytest.raises(NotPermitted):
        site.put_hold(site.key(role))
    site.put_hold(site.key("siro"))
    with pytest.raises(NotPermitted):
        site.lift_hold(site.key(role))
    assert list(site.held().holds) == [site.withdrawn]


def test_a_hold_that_somebody_removed_stops_every_destruction(site: Site) -> None:
    order = site.order()
    site.put_hold(site.key("siro"), site.superseded)
    shutil.rmtree(site.records.root / "holds")
    with pytest.raises(IntegrityError, match="knows of a hold"):
        site.destruction().carry_out(order)


def test_the_end_of_a_hold_that_no_siro_signed_ends_nothing(site: Site) -> None:
    hold = site.put_hold(site.key("siro"))
    forged = hold.document.model_copy(update={"lifts": hold.sha256, "person": "demo-iao"})
    signed = Signed(forged).sign(site.key("iao"))
    site.records.put(signed, f"{signed.sha256}.json")
    assert list(site.held().holds) == [site.withdrawn]


# 112: still needed -------------------------------------------------------------------------------------


def test_a_delivery_in_use_is_withdrawn_and_published_without_before_it_goes(site: Site) -> None:
    delivery = _named(site.workspace, "ons_deaths-")
    with pytest.raises(NotPermitted, match="is in use") as refusal:
        site.destroy(delivery)
    assert "retention withdraw" in refusal.value.next_step
    with lake_removal.opened(site.workspace, site.keyring) as lake:
        in_use.withdraw(
            site.workspace,
            lake,
            delivery,
            REASON,
            site.key("iao"),
            register=site.register,
            policy=POLICY,
            audit=site.audit("iao"),
            now=LATE,
        )
    with pytest.raises(NotPermitted, match=r"published run .* was computed from") as refusal:
        site.destroy(delivery)
    assert "wardwatch nightly" in refusal.value.next_step
    assert refusal.value.reason_code == "in_use"
    quiet_night(site.workspace, LATE)
    site.destroy(delivery)
    assert site.places_of(delivery) == []
    assert publish.current_run(site.workspace.zone("published")) is not None


def test_what_may_not_be_kept_is_not_used_in_the_next_run(site: Site) -> None:
    """The night takes it out by itself; destroying it takes two persons."""
    ended = [due.delivery_id for due in site.held().dues(LATE.date()) if due.state == "overdue"]
    with lake_removal.opened(site.workspace, site.keyring) as lake:
        taken = in_use.leave_out_ended(lake, ended, site.audit())
    assert taken, "everything is overdue"
    assert "current" not in {row.status for row in site.rows().values()}
    assert site.places_of(taken[0]), "vault and landing copy are there until they are destroyed"
    site.start()


def test_a_delivery_that_an_open_case_needs_is_not_destroyed(site: Site) -> None:
    order = site.order()
    case = request_a_review(site, site.withdrawn)
    with pytest.raises(NotPermitted, match=f"case {case} is requested") as refusal:
        site.destruction().carry_out(order)
    assert refusal.value.reason_code == "open_case"


def test_a_case_that_cannot_be_read_counts_as_open(site: Site) -> None:
    order = site.order()
    case = request_a_review(site, site.withdrawn)
    (site.workspace.root / "reviews" / case / "request.json").write_bytes(b"{}")
    with pytest.raises(NotPermitted) as refusal:
        site.destruction().carry_out(order)
    assert refusal.value.reason_code == "open_case"


def test_the_key_of_an_ended_case_goes_with_the_delivery(site: Site) -> None:
    case = request_a_review(site, site.withdrawn, expires=LATE - timedelta(days=1))
    key = site.workspace.root / "reviews" / case / "review-key.age"
    key.write_bytes(b"sealed to the pipeline")
    certificate = site.destroy()
    assert certificate.document.destroyed[0].cases == (case,)
    assert not key.exists()


def request_a_review(site: Site, delivery_id: str, expires: datetime = LATE + timedelta(days=3)) -> str:
    """A request of an analyst that names the delivery, as the review keeps it."""
    request_id = "ab" * 16
    request = review.Request(
        case=review.case_code(request_id),
        id=request_id,
        demo=True,
        requester="demo-intelligence-analyst",
        purpose="case_review",
        legal_gateway="s77_2_f",
        agreement="DEMO-AGREEMENT",
        trigger="an alert",
        recipient="RXX",
        recipient_key="0" * 16,
        items=("local_patient_identifier",),
        predicate=review.Predicate(name="deaths", sha256="0" * 64, parameters={}),
        cohort=review.CohortSummary(
            digest="0" * 64,
            records=1,
            patients=1,
            deliveries=(
                review.CohortDelivery(
                    delivery_id=delivery_id,
                    folder=delivery_id,
                    vault_manifest="0" * 64,
                    records=1,
                    columns=("LOPATID",),
                ),
            ),
        ),
        necessity=review.Necessity(
            why_necessary="a",
            alternatives_considered="b",
            why_proportionate="c",
            objections_considered="d",
        ),
        acknowledged=review.Acknowledged(),
        max_rows=1,
        made_at=review.stamp(expires - timedelta(days=10)),
        not_before=review.stamp(expires - timedelta(days=10)),
        expires=review.stamp(expires),
        policy="0" * 64,
        lake_state="0" * 64,
        register_digest="0" * 64,
        review_recipient="age1" + "q" * 58,
    )
    folder = site.workspace.root / "reviews" / request.case
    folder.mkdir(parents=True)
    signed = review.sign(request, site.key("intelligence_analyst"))
    (folder / "request.json").write_bytes(signed.content)
    return request.case


# Who may order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signed_by", "reason"),
    [
        ((), "missing_signature"),
        (("siro",), "missing_signature"),
        (("siro", "deputy_siro"), "no_role"),
        (("iao", "caldicott_guardian"), "no_role"),
        (("intelligence_analyst", "data_engineer"), "no_role"),
        (("siro", "iao", "auditor"), "too_many_signatures"),
    ],
)
def test_an_order_takes_a_siro_and_the_owner_and_nobody_else(
    site: Site, signed_by: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(NotPermitted) as refusal:
        site.destruction().carry_out(site.order(signed_by=signed_by))
    assert refusal.value.reason_code == reason
    assert site.places_of(site.withdrawn)
    assert site.refusals() == [reason]


def test_an_order_by_a_key_that_nobody_enrolled_is_refused(site: Site) -> None:
    order = site.order(signed_by=("siro",)).sign(SigningKey.create())
    with pytest.raises(NotPermitted) as refusal:
        site.destruction().carry_out(order)
    assert refusal.value.reason_code == "unknown_signer"


def test_a_signed_order_names_its_deliveries_and_no_others(site: Site) -> None:
    order = site.order()
    other = site.order(site.superseded).document.deliveries
    edited = Signed(order.document.model_copy(update={"deliveries": other}), order.signatures)
    with pytest.raises(NotPermitted) as refusal:
        site.destruction().carry_out(edited)
    assert refusal.value.reason_code == "changed"


def test_an_order_for_a_vault_that_changed_since_is_refused(site: Site) -> None:
    order = site.order()
    shutil.rmtree(site.workspace.zone("vault") / site.withdrawn)
    with pytest.raises(NotPermitted) as refusal:
        site.destruction().carry_out(order)
    assert refusal.value.reason_code == "changed"


def test_an_order_is_carried_out_once(destroyed: Destroyed) -> None:
    site = destroyed.site
    ((_, order),) = site.records.all(Order)
    assert site.destruction().carry_out(order) == destroyed.certificate
    assert len(list(site.records.all(Certificate))) == 1


# 115: the certificate ----------------------------------------------------------------------------------


def certificate_file(site: Site) -> Path:
    (path,) = (site.records.root / "certificates").iterdir()
    return path


def problems(site: Site) -> list[str]:
    return [checked.problem for checked in certificates(site.workspace, site.register, POLICY)]


@pytest.mark.parametrize(
    "change",
    [
        {"carried_out_by": "somebody-else"},
        {"attempts": ()},
        {"backups": ()},
        {"demo": False},
        {"order_sha256": "0" * 64},
        {"finished_at": "2027-01-09T23:00:00Z"},
    ],
)
def test_an_edited_certificate_fails(destroyed: Destroyed, change: dict[str, Any]) -> None:
    site, certified = destroyed.site, certificate_file(destroyed.site)
    assert problems(site) == [""]
    signed = parse(certified.read_bytes(), Certificate)
    edited = Signed(signed.document.model_copy(update=change), signed.signatures)
    certified.write_bytes(edited.content)
    assert any("does not fit the document" in problem for problem in problems(site))


def test_a_certificate_that_the_audit_log_does_not_know_or_that_is_missing_fails(
    destroyed: Destroyed,
) -> None:
    """Whoever has the manifest key can sign another certificate, and not take back the line about the first."""
    site, certified = destroyed.site, certificate_file(destroyed.site)
    signed = parse(certified.read_bytes(), Certificate)
    other = signed.document.model_copy(update={"attempts": ()})
    certified.write_bytes(Signed(other).sign(site.keyring.manifest_signing_key).content)
    found = problems(site)
    assert "the audit log does not know this certificate" in found
    assert "the audit log knows of a certificate that is not here" in found


def test_a_certificate_is_witnessed_by_somebody_who_did_not_order_it(destroyed: Destroyed) -> None:
    site = destroyed.site
    (checked,) = certificates(site.workspace, site.register, POLICY)
    common: dict[str, Any] = {"records": site.records, "register": site.register, "policy": POLICY}
    with pytest.raises(NotPermitted):
        witness(checked, site.key("siro"), audit=site.audit("siro"), now=LATE, **common)
    witness(checked, site.key("auditor"), audit=site.audit("auditor"), now=LATE, **common)
    (checked,) = certificates(site.workspace, site.register, POLICY)
    assert checked.witnesses == ("demo-auditor",)
