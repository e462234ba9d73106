"""Direct access: another account, a link, a backup, a key that somebody else has just used, and looking a person up.

What keys open which file is in ``test_pipeline_keys.py`` and ``test_stolen_keys.py``; attacks 1 to 12 of the paper.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest
import typer

import flows
import infra
from infra import vault_opening
from infra.curated_query import query_published
from infra.keyring import Keyring, PublicKeys
from infra.officers import IDENTITY_FILE, load_identity
from infra.review import permission
from infra.review.documents import Request, Signed
from infra.sealing import new_identity
from infra.vault import read_manifest
from infra.vault_opening import open_with_officers
from infra.workspace import ZONES, Workspace
from schemas.errors import CannotOpen, KeyUnavailable, NotPermitted, UsageError
from tests.support.reviews import Desk, fresh_desk, refused
from tests.support.unprivileged import NOBODY, as_nobody, folder_of_nobody
from tests.support.workspaces import copy_workspace, make_workspace

SECRET = "CANARY-5150"


# 2: a symbolic link ------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A published file; beside it links that an analyst has made to a vault, to a file in it and to a database."""
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "part.txt").write_text(SECRET)
    with duckdb.connect(str(vault / "other.duckdb")) as connection:
        connection.execute(f"create table held as select '{SECRET}' as held")
        connection.execute(f"copy held to '{vault / 'part.parquet'}'")
    folder = tmp_path / "published"
    folder.mkdir()
    with duckdb.connect(str(folder / "wardwatch.duckdb")) as connection:
        connection.execute("create table indicator as select 'shmi' as indicator")
    for name, target in (
        ("text", "part.txt"),
        ("parquet.parquet", "part.parquet"),
        ("base.duckdb", "other.duckdb"),
    ):
        (folder / name).symlink_to(vault / target)
    (folder / "folder").symlink_to(vault, target_is_directory=True)
    return folder / "wardwatch.duckdb"


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('{here}/text')",
        "select * from read_blob('{here}/folder/part.txt')",
        "select * from read_parquet('{here}/parquet.parquet')",
        "from '{here}/parquet.parquet'",
        "select * from glob('{here}/folder/*')",
        "select * from '{here}/base.duckdb'.held",
        "attach '{here}/base.duckdb' as other",
        "copy indicator to '{here}/folder/out.csv'",
    ],
)
def test_a_symbolic_link_is_no_way_into_the_vault(published: Path, sql: str) -> None:
    before = sorted(published.parent.rglob("*"))
    with pytest.raises((NotPermitted, UsageError)) as stopped:
        query_published(published, sql.format(here=published.parent))
    assert SECRET not in str(stopped.value)
    assert sorted(published.parent.rglob("*")) == before


# 8: other accounts of the machine ------------------------------------------------------------------------

# Every file and folder of the workspace that the account is told of, by each way in; says how often it got in.
ANOTHER_ACCOUNT = """
import os, sys, tempfile
from pathlib import Path
from tests.support.unprivileged import become_nobody
root, listed = Path(sys.argv[1]), Path(sys.argv[2]).read_text().splitlines()
become_nobody()
own = tempfile.mkdtemp()
tried = 0
for number, name in enumerate(listed):
    path = root / name
    for attempt in (
        lambda: os.open(path, os.O_RDONLY),
        lambda: os.truncate(path, 0) if path.suffix else os.listdir(path),
        lambda: os.mkdir(path / "new"),
        lambda: os.link(path, f"{own}/link{number}"),
        lambda: path.rename(f"{own}/moved{number}"),
        lambda: os.chmod(path, 0o777),
    ):
        tried += 1
        try:
            attempt()
            print("got in:", name)
        except PermissionError:
            pass
print("tried", tried)
"""


@pytest.mark.parametrize("group", [0, NOBODY], ids=["another account", "a member of the files' group"])
def test_another_account_gets_into_no_zone_of_a_workspace(finished_template: Workspace, group: int) -> None:
    """Also by a hard link: it would outlive a later change of modes, so the folder must never have been open."""
    assert os.geteuid() == 0, "another account could not be tried (becoming one takes root)"
    with folder_of_nobody() as folder:
        os.chown(folder, 0, 0)
        folder.chmod(0o755)
        root = copy_workspace(finished_template, folder / "workspace").root
        paths = [root, *sorted(path for path in root.rglob("*") if not path.is_symlink())]
        names = [path.relative_to(root).as_posix() for path in paths]
        for path in paths:
            os.chown(path, 0, group)
        assert {name.split("/")[0] for name in names} >= set(ZONES), "every zone is tried"
        listed = folder / "listed"
        listed.write_text("\n".join(names))
        ran = as_nobody(ANOTHER_ACCOUNT, root, listed)
        assert ran.stdout.splitlines()[-1:] == [f"tried {6 * len(names)}"], ran.stdout[:2000] + ran.stderr
        assert "got in" not in ran.stdout
        for path in paths:
            assert path.lstat().st_nlink == 1 or path.is_dir(), "a hard link was made"
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0


# 9: a backup and an older policy -------------------------------------------------------------------------


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


def older_policy(folder: Path) -> tuple[Path, ...]:
    """The policy files as they may have been: one of them has a sentence more."""
    copies = []
    for path in permission.POLICY_FILES:
        copy = folder / path.name
        copy.write_bytes(
            path.read_bytes() + (b"\n# as it was in spring\n" if path.name == "roles.yaml" else b"")
        )
        copies.append(copy)
    return tuple(copies)


def test_a_backup_of_the_vault_with_an_older_policy_opens_nothing(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever restores vault, approvals and the policy of another day finds that they do not belong together."""
    request: Signed[Request] = desk.asked
    desk.approve(request)
    backup = shutil.copytree(desk.workspace.root, tmp_path / "backup", symlinks=True)
    elsewhere = Desk(Workspace.open(backup), desk.clock)
    monkeypatch.setattr(permission, "POLICY_FILES", older_policy(tmp_path))
    with refused(elsewhere, "policy_changed"):
        elsewhere.issue(request)
    with refused(desk, "policy_changed"):
        desk.issue(request)


def test_approvals_put_back_from_a_backup_are_as_spent_as_they_were(desk: Desk, tmp_path: Path) -> None:
    """The folders of review, vault and outbox as they were before the list was made; the audit log goes on."""
    request = desk.asked
    desk.approve(request)
    backup = shutil.copytree(desk.workspace.root, tmp_path / "backup", symlinks=True)
    desk.issue(request)
    for zone in ("reviews", "vault", "outbox"):
        shutil.rmtree(desk.workspace.zone(zone))
        shutil.copytree(backup / zone, desk.workspace.zone(zone))
    with refused(desk, "spent"):
        desk.issue(request)
    assert desk.outbox == []


# 10: looking a person up ---------------------------------------------------------------------------------

# Every parameter of every command. Free text (a question, a reason) is refused where it holds an identifier; a
# person is a member of staff; a name is that of a key. A new parameter is thought about here first.
PARAMETERS = {
    "acknowledge_few", "acknowledge_many", "action", "add", "again", "agreement", "alternatives", "as_csv",
    "as_json", "audience", "bundle", "by", "case", "certificate", "closed", "cohort", "csv", "dataset",
    "days", "decision", "declaration", "deliveries", "delivery", "diagnosis", "dry_run", "early",
    "emergency", "episodes", "everything", "expected", "false_alarm_rate", "file", "files", "finding",
    "first", "folder", "form", "founder", "gateway", "group", "hospital", "hospitals", "identity",
    "identity_confirmed", "incident_id", "item", "key", "key_file", "keys", "kind", "last", "lift",
    "log_folder", "log_keys", "mask", "max_rows", "method", "month", "name", "object", "objections",
    "observed", "odds_ratio", "on", "only_open", "order_file", "organisations", "out", "outcome", "period",
    "person", "proportionate", "purpose", "reason", "receipt", "received", "recipient", "reference", "replace",
    "replaces", "request_id", "reset", "risk", "role", "run", "seed", "sender", "share", "signing",
    "signing_key", "since", "sites", "sql", "state", "successors", "text", "threshold", "trigger", "types",
    "until", "verify", "why", "witness", "years", "zone",
}  # fmt: skip
# Parameters that have such a word in their names and are none: why.
COUNTS_AND_NO_PERSONS = {"infra.review.permission.check_size(patients)": "how many there are"}
OF_A_PERSON = ("nhs", "patient", "birth", "dob", "postcode", "surname", "forename", "lopatid", "hesid")


def commands(group: Any) -> Iterator[Any]:
    for command in getattr(group, "commands", {}).values():
        yield from commands(command) if hasattr(command, "commands") else [command]


def test_no_command_takes_what_names_a_person() -> None:
    from flows.cli.application import app

    found = list(commands(typer.main.get_command(app)))
    assert len(found) > 40
    names = {parameter.name for command in found for parameter in command.params}
    assert names <= PARAMETERS, "a command has a parameter that nobody has thought about"


def modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for each in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "prefect" not in each.name and not each.name.endswith("_flow"):
            yield importlib.import_module(each.name)


def functions() -> dict[str, Any]:
    """Every function and method of ``infra`` and ``flows`` but the generator of artificial persons, by its name."""
    found: dict[str, Any] = {}
    for module in (*modules(infra), *modules(flows)):
        if module.__name__.startswith("infra.synthetic"):
            continue
        for name, member in vars(module).items():
            if getattr(member, "__module__", "") != module.__name__:
                continue
            if inspect.isclass(member):
                for own, method in vars(member).items():
                    plain = getattr(method, "__func__", method)
                    if callable(plain) and not own.startswith("__"):
                        found[f"{module.__name__}.{name}.{own}"] = plain
            elif callable(member):
                found[f"{module.__name__}.{name}"] = member
    return found


def test_no_function_takes_what_names_a_person() -> None:
    found = functions()
    assert len(found) > 500
    wrong = []
    for name, function in found.items():
        parameters = inspect.signature(function).parameters if inspect.isfunction(function) else ()
        wrong += [f"{name}({p})" for p in parameters if any(part in p.lower() for part in OF_A_PERSON)]
    assert set(wrong) == set(COUNTS_AND_NO_PERSONS)


def test_the_vault_is_opened_by_hospital_and_item_and_by_nothing_finer() -> None:
    """Nothing that opens a part is told of whom: what comes out is an item of all records of one hospital."""
    public = {
        name: set(inspect.signature(member).parameters)
        for name, member in vars(vault_opening).items()
        if inspect.isfunction(member) and member.__module__ == vault_opening.__name__ and name[0] != "_"
    }
    assert set(public) == {"read_shares", "shares_for", "open_with_shares", "open_with_officers"}
    assert set().union(*public.values()) == {
        *("folder", "role", "identity", "public_keys", "shares", "issuer", "columns"),
        *("guardian_shares", "siro_shares", "guardian_identity", "siro_identity"),
    }


# 12: the next one in the same process ----------------------------------------------------------------------


def test_what_two_officers_opened_stays_closed_to_the_next_in_the_same_process(
    finished_template: Workspace,
) -> None:
    signers = PublicKeys.load(finished_template.zone("keys")).signers("manifest_signing")
    guardian, siro = (
        load_identity(finished_template.zone("officers") / role / IDENTITY_FILE)
        for role in ("caldicott_guardian", "siro")
    )
    folder, issuer, item = a_vault(finished_template, signers)
    assert open_with_officers(folder, guardian, siro, issuer, [item], signers).height
    stranger = new_identity()[0]
    for pair in ((stranger, siro), (guardian, stranger), (siro, guardian), (guardian, guardian)):
        with pytest.raises(CannotOpen):
            open_with_officers(folder, *pair, issuer, [item], signers)


def a_vault(workspace: Workspace, signers: dict[str, str]) -> tuple[Path, str, str]:
    """Folder, an issuing hospital and an item of one vault that holds something."""
    for folder in sorted(workspace.zone("vault").iterdir()):
        if not folder.is_dir() or not (folder / "manifest.json").exists():
            continue
        manifest = read_manifest(folder, signers)
        if set(manifest["columns"]) - {"record_key"}:
            return folder, manifest["parts"][0]["issuer"], max(set(manifest["columns"]) - {"record_key"})
    raise AssertionError("no vault holds anything")


def test_a_keyring_that_was_open_does_not_open_the_next_one(
    finished_template: Workspace, tmp_path: Path
) -> None:
    first = Keyring.open(finished_template.zone("keys"))
    other = Keyring.open(make_workspace(tmp_path / "other").zone("keys"))
    assert first.lake_metadata_key != other.lake_metadata_key
    locked = copy_workspace(finished_template, tmp_path / "locked")
    (locked.zone("keys") / "unlock.key").unlink()
    with pytest.raises(KeyUnavailable):
        Keyring.open(locked.zone("keys"))


def test_nothing_that_is_remembered_for_the_next_call_is_a_key_or_a_client() -> None:
    """Policy files, the digest of the code and pictures of published numbers are all that a process keeps."""
    remembered = {name for name, function in functions().items() if hasattr(function, "cache_info")}
    assert remembered == {
        "infra.code_version.code_version",
        "infra.purposes.load_policy",
        "infra.report.charts._rendered",
    }
