"""Scenarios: the pieces of work that a kill may interrupt, for the kill test.

Each starts from a prepared workspace, does its work at a given time, and has a result that does not depend on when
or how often the work was begun. Together they reach every commit point of the code; a new point that none of them
reaches fails the kill test by name, and is reached by making a scenario richer or by adding one here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from infra import publish
from infra.incidents import list_incidents
from infra.sealing import seal
from infra.workspace import Workspace
from tests.support import retention_scenario, review_scenario
from tests.support.convergence import published_result
from tests.support.workspaces import EVENING, Clock, Extracts, drop, few_indicators, night, recipient, settle

# After the landing windows of the first night's deliveries have ended.
SECOND_NIGHT = EVENING + timedelta(days=40)


@dataclass(frozen=True)
class Scenario:
    """``prepare``: on a copy of the workspace after the first night. ``work``: what is killed and begun again.
    ``result``: name -> digest of everything that readers get."""

    prepare: Callable[[Workspace, Extracts], None]
    work: Callable[[Workspace, datetime], None]
    result: Callable[[Workspace], dict[str, str]]


# The night --------------------------------------------------------------------------------------------


def _prepare_night(workspace: Workspace, plain: Extracts) -> None:
    """A second night that has everything to do: a later month in place of an earlier one, a newer snapshot of
    deaths, a file with a column of names, landing windows that end, and an earlier run to remove."""
    change_settings(workspace, keep_runs=1)
    drop(workspace, plain.named("HES_APC_202209"), before=SECOND_NIGHT)
    deaths = plain.one("CIVIL_DEATHS").read_text(encoding="utf-8").splitlines(keepends=True)
    put(workspace, "NIC359603_CIVIL_DEATHS_20230515.csv", "".join(deaths[:-1]))
    put(workspace, "NIC359603_HES_OP_202299.txt", "ATTENDKEY,TOKEN_PERSON_ID,SURNAME\n1,2,3\n")
    # A list that this agreement does not honour is taken all the same, for the day on which it does.
    list_of_one = f"PERSON_ID\n{'A' * 32}\n".encode()
    path = workspace.zone("inbox") / "OBJECTIONS.csv.age"
    path.write_bytes(seal(list_of_one, recipient(workspace)))
    settle(path, SECOND_NIGHT)


def _night(workspace: Workspace, moment: datetime) -> None:
    with few_indicators():  # what is computed plays no part in how a night is interrupted
        night(workspace, Clock(moment))


def _after_night(workspace: Workspace) -> dict[str, str]:
    """What is published, what stays in the inbox, and the incidents: one for the file with names, for it to be
    known, and one only, however often the night was begun."""
    found = list_incidents(workspace.zone("incidents"))
    return {
        **published_result(workspace.zone("published")),
        "inbox": " ".join(sorted(path.name for path in workspace.zone("inbox").iterdir())),
        "incidents": " ".join(f"{incident.type.value} {incident.object}" for incident in found),
    }


# The release ------------------------------------------------------------------------------------------


def _release(workspace: Workspace, moment: datetime) -> None:
    from infra import release
    from infra.officers import SIGNING_FILE, load_signing_key

    published = workspace.zone("published")
    run = publish.current_run(published)
    assert run is not None
    if publish.current_run(published / publish.PUBLIC) == run:
        return  # a release is done once; the officer sees it and does not ask again
    release.approve(
        published,
        run,
        person="demo-release-manager",
        role="release_manager",
        reason="synthetic data, for the kill test",
        signing_key=load_signing_key(workspace.zone("officers") / "release_manager" / SIGNING_FILE),
        approved_at=moment,
    )


# A change of office ------------------------------------------------------------------------------------


def _office(workspace: Workspace, moment: datetime) -> None:
    """A training is entered into the register, and the Guardian's shares are sealed anew to those in office."""
    from infra.audit import AuditLog
    from infra.keyring import Keyring
    from infra.officers import IDENTITY_FILE, SIGNING_FILE, load_identity, load_signing_key
    from infra.register import Register, account_for_killed, add_entry
    from infra.register_resealing import Zones, reseal, take

    keys, officers = workspace.zone("keys"), workspace.zone("officers")
    audit = AuditLog(workspace.zone("audit"), lambda: moment, "demo-iao", "iao")
    account_for_killed(keys, audit)
    register = Register.load(keys)
    if register.person("demo-auditor", moment).trained_on != SECOND_NIGHT.date():
        day = SECOND_NIGHT.date().isoformat()
        entry = register.draft("training_recorded", moment, person="demo-auditor", on=day)
        signed = entry.sign(load_signing_key(officers / "iao" / SIGNING_FILE))
        register = add_entry(keys, signed, now=moment, audit=audit)
    keyring = Keyring.open(keys)
    zones = Zones(workspace.zone("vault"), workspace.zone("landing"), keyring.signers("manifest_signing"))
    guardian = officers / "caldicott_guardian"
    own = load_identity(guardian / IDENTITY_FILE), load_signing_key(guardian / SIGNING_FILE)
    take(
        zones,
        register,
        reseal(zones, register, "guardian", *own, moment),
        keyring.manifest_signing_key,
        audit,
    )


def _after_office(workspace: Workspace) -> dict[str, str]:
    """The training, and the shares as the deputy opens them."""
    from infra.keyring import PublicKeys
    from infra.officers import IDENTITY_FILE, load_identity
    from infra.register import Register
    from infra.register_resealing import Zones
    from infra.sealing import unseal
    from infra.vault import read_listed_file

    keys = workspace.zone("keys")
    trained = Register.load(keys).person("demo-auditor", SECOND_NIGHT + timedelta(days=2)).trained_on
    zones = Zones(workspace.zone("vault"), workspace.zone("landing"), PublicKeys.load(keys).signers())
    deputy = load_identity(workspace.zone("officers") / "deputy_caldicott_guardian" / IDENTITY_FILE)
    sealed = {path.parent.name: path.read_bytes() for path in zones.landed("guardian")}
    sealed |= {
        f"vault/{folder.name}": read_listed_file(folder, entry)
        for folder, _, entry in zones.vaults("guardian")
    }
    opened = {name: hashlib.sha256(unseal(content, deputy)).hexdigest() for name, content in sealed.items()}
    return {"trained": str(trained), **opened}


# The first that reaches a commit point is the one that is killed there.
SCENARIOS = {
    "night": Scenario(_prepare_night, _night, _after_night),
    "release": Scenario(
        lambda _workspace, _plain: None,
        _release,
        lambda w: published_result(w.zone("published") / publish.PUBLIC),
    ),
    "office": Scenario(lambda _workspace, _plain: None, _office, _after_office),
    "review": Scenario(review_scenario.prepare, review_scenario.work, review_scenario.result),
    "retention": Scenario(retention_scenario.prepare, retention_scenario.work, retention_scenario.result),
}


def change_settings(workspace: Workspace, **changes: object) -> None:
    path = workspace.root / "settings.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**settings, **changes}), encoding="utf-8")


def put(workspace: Workspace, name: str, text: str, *, before: datetime = SECOND_NIGHT) -> Path:
    """A plain file in the inbox, as an upload that ended."""
    path = workspace.zone("inbox") / name
    path.write_text(text, encoding="utf-8")
    settle(path, before)
    return path
