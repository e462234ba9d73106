"""The nightly run as an operator starts it: a process of its own, with the orchestrator embedded in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from infra import publish
from infra.workspace import Workspace
from tests.support import command_line
from tests.support.convergence import lake_content, leftovers
from tests.support.processes import PROJECT, wardwatch
from tests.support.small_deliveries import small
from tests.support.workspaces import Extracts, drop, settle

ARTIFICIAL = PROJECT.parent / "shared" / "data" / "artificial_hes"


@pytest.mark.flow
def test_a_night_publishes_and_a_second_one_says_that_there_is_nothing_new(
    finished_workspace: Workspace, extracts: Extracts, shared_folder: Path
) -> None:
    root = finished_workspace.root
    published = finished_workspace.zone("published")
    before = publish.current_run(published)
    drop(finished_workspace, extracts.named("HES_OP_202206"))

    first = wardwatch(root, "nightly", "--json", shared_folder=shared_folder)

    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert (len(told["landed"]), len(told["ingested"]), told["problems"]) == (1, 1, [])
    assert publish.current_run(published) == told["run_id"] != before
    assert (root / "orchestrator" / "prefect.db").exists(), "the flow ran without its orchestrator"
    as_published = state_of(published)

    second = wardwatch(root, "nightly", shared_folder=shared_folder)

    assert second.returncode == 0, second.stderr
    assert "nothing new" in second.stdout
    assert state_of(published) == as_published, "a night with nothing to do touched what is published"
    assert leftovers(finished_workspace, lake_content(finished_workspace)) == []


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize("armored", [False, True], ids=["gpg", "asc"])
def test_an_openpgp_delivery_is_judged_and_taken_with_the_certificate_that_init_shows(
    armored: bool, empty_workspace: Workspace, plain_extracts: Extracts, tmp_path: Path
) -> None:
    import pysequoia

    certificate = (empty_workspace.zone("keys") / "inbox-openpgp.asc").read_bytes()
    text = small(plain_extracts.one("HES_OP_202199")).bytes()
    message = pysequoia.encrypt(text, recipients=[pysequoia.Cert.from_bytes(certificate)], armor=armored)
    path = tmp_path / "NIC000001_HES_OP_202199.txt.gpg"
    path.write_bytes(message)
    settle(path)

    judged = command_line.wardwatch(empty_workspace.root, "check", path)
    assert judged.exit_code == 0, judged.err
    assert "40 records" in judged.out
    (empty_workspace.zone("inbox") / path.name).write_bytes(message)
    settle(empty_workspace.zone("inbox") / path.name)
    ran = command_line.wardwatch(empty_workspace.root, "nightly")

    assert ran.exit_code == 0, ran.err
    (row,) = lake_content(empty_workspace).rows
    assert row.rows_in == 40
    assert list(empty_workspace.zone("inbox").iterdir()) == [], "what was landed leaves the inbox"


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Path -> time of the last change and digest, of everything in ``folder``."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("file", "delivery", "records"),
    [
        ("artificial_hes_apc_0102_truncated.csv", "hes_apc-200199-", 2_075),
        ("artificial_hes_op_0304_truncated.csv", "hes_op-200399-", 1_000),
    ],
)
def test_an_artificial_extract_is_landed_and_published_without_a_vault(
    file: str, delivery: str, records: int, empty_workspace: Workspace, tmp_path: Path
) -> None:
    """They have the real layout of their years, and no identifiable item."""
    if not (ARTIFICIAL / file).exists():
        pytest.skip(f"../shared/data/artificial_hes/{file} is not here")
    path = tmp_path / file
    path.write_bytes((ARTIFICIAL / file).read_bytes())
    settle(path)

    landed = command_line.wardwatch(empty_workspace.root, "land", path)
    assert landed.exit_code == 0, landed.err
    ran = command_line.wardwatch(empty_workspace.root, "nightly")

    assert ran.exit_code == 0, ran.err
    (line,) = ran.lines_with(f"{records:,} records in use")
    assert line.startswith(delivery)
    assert line.endswith("none with identifiable items, so its vault is empty")
    (row,) = lake_content(empty_workspace).rows
    assert (row.rows_in, row.rows_kept, row.rows_vaulted) == (records, records, 0)
    folder = publish.current(empty_workspace.zone("published"))
    assert folder is not None
    values = publish.read_tables(folder, ["indicator_value"])["indicator_value"]
    if delivery.startswith("hes_apc"):
        assert values.height > 0, "the indicators of admitted care have values"
        # Nobody is said to have died after discharge: there is no register of deaths for these people.
        assert values["numerator"].sum() > 0
