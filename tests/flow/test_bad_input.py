"""Whatever is wrong with a file, the answer is one clear line with a stable code, and nothing of the file is kept.

Each bad file is made from a small piece of a synthetic extract and goes through the real commands. ``check`` and
``land`` get it by hand; ``nightly`` finds all of them in one inbox. Three promises are held for every one:

* the code and the exit code are the documented ones, in one line;
* nothing is lost (the file stays where it was, but for a forbidden column, whose file must go) and nothing is half
  kept (the workspace is compared file by file, audit log, incidents and receipts of refusal aside);
* no value of the file is in what was printed, logged or written.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyrage
import pytest
import yaml

from infra.incidents import IncidentType, list_incidents
from infra.lake import CommittedDelivery, committed_deliveries, reading
from infra.landing import Landing
from infra.receipts import safe_name
from infra.workspace import Workspace
from tests.security.sweep import Canary, Sweep
from tests.support.command_line import Ran, wardwatch
from tests.support.small_deliveries import Text, small
from tests.support.workspaces import Clock, Extracts, keyring, recipient, settle, tree

NAME = "NIC359603_HES_APC_202199.txt"
NUL_ROWS = 30  # of the forty: most of them
MEBIBYTE = 1 << 20
REFUSED, FORBIDDEN, CANNOT_OPEN = "delivery.refused", "delivery.forbidden_column", "delivery.cannot_open"
DAMAGED = "delivery.damaged"
CONFLICT, UNSAFE, CRITICAL = "delivery.conflict", "delivery.unsafe_archive", "delivery.critical_rule"

TYPED_BY_MISTAKE = "9991234560"  # a number of the test range, in places where names belong


@dataclass(frozen=True)
class Making:
    """What a bad file is made of: the good text, and the inbox's public key."""

    text: Text
    key: str

    def sealed(self, content: bytes | None = None, key: str | None = None) -> bytes:
        to = pyrage.x25519.Recipient.from_str(key or self.key)
        sealed: bytes = pyrage.encrypt(self.text.bytes() if content is None else content, [to])
        return sealed

    def zipped(self, *members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a name used twice, which is meant
            for name, content in members:
                archive.writestr(name, content)
        return packed.getvalue()


@dataclass(frozen=True)
class Bad:
    """One kind of bad file: how it is made, under which name it comes, and what must follow."""

    id: str
    make: Callable[[Making], bytes]
    exit_code: int
    code: str
    name: str = NAME
    incident: IncidentType | None = None
    says: str = ""


def _spoilt_lines(spoil: Callable[[bytes], bytes], rows: int) -> Callable[[Making], bytes]:
    """The first ``rows`` records spoilt, the others as they are."""

    def make(making: Making) -> bytes:
        header, *lines = making.text.bytes().splitlines()
        return b"\n".join([header, *map(spoil, lines[:rows]), *lines[rows:]]) + b"\n"

    return make


def _cut(share: float, less: int = 0) -> Callable[[Making], bytes]:
    def make(making: Making) -> bytes:
        sealed = making.sealed()
        return sealed[: int(len(sealed) * share) - less]

    return make


def _flipped(where: Callable[[bytes], int]) -> Callable[[Making], bytes]:
    def make(making: Making) -> bytes:
        sealed = bytearray(making.sealed())
        sealed[where(bytes(sealed))] ^= 1
        return bytes(sealed)

    return make


def _another_letter(where: Callable[[bytes], int]) -> Callable[[Making], bytes]:
    """Changed, and still the base64 that a header is written in: what is none is damage and not another key."""

    def make(making: Making) -> bytes:
        sealed = bytearray(making.sealed())
        at = where(bytes(sealed))
        sealed[at : at + 1] = b"A" if sealed[at : at + 1] != b"A" else b"B"
        return bytes(sealed)

    return make


def _body(sealed: bytes) -> int:
    """Where the header of an age file ends: behind the line that begins with three hyphens."""
    return sealed.index(b"\n", sealed.index(b"\n--- ") + 1) + 1


def _link_member() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(NAME)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def _tar(making: Making) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("../" + NAME)
        member.size = len(making.text.bytes())
        archive.addfile(member, io.BytesIO(making.text.bytes()))
    return packed.getvalue()


def _many_records(making: Making) -> bytes:
    """Good records, and after the first MiB seventy more of empty ones, which pack a thousand to one."""
    good, empty = making.text.bytes(), b"," * (len(making.text.header) - 1) + b"\n"
    records = good.split(b"\n", 1)[1]
    return good + records * (MEBIBYTE // len(records) + 1) + empty * (70 * MEBIBYTE // len(empty))


def _two_halves(making: Making) -> bytes:
    """Rows divided by commas, then rows divided by pipes."""
    lines = making.text.bytes().splitlines()
    return b"\n".join(lines[:20] + [line.replace(b",", b"|") for line in lines[20:]]) + b"\n"


def _without_key(making: Making) -> tuple[str, bytes]:
    text = making.text.without("EPIKEY").filled("PARTYEAR", "202299")
    return "NIC359603_HES_APC_202299.txt", text.bytes()


def _new_key() -> str:
    return str(pyrage.x25519.Identity.generate().to_public())


BAD = [
    # Columns
    Bad(
        "an unknown column",
        lambda m: m.text.with_column("WARD_NOTES", "x").bytes(),
        10,
        REFUSED,
        says="WARD_NOTES",
    ),
    Bad(
        "a value where a column name belongs",
        lambda m: m.text.with_column(f"NO {TYPED_BY_MISTAKE}", "x").bytes(),
        10,
        REFUSED,
        says="column 170",
    ),
    Bad(
        "a required column is missing", lambda m: m.text.without("EPIKEY").bytes(), 10, REFUSED, says="EPIKEY"
    ),
    Bad(
        "a renamed column",
        lambda m: m.text.renamed("EPISTART", "EPISODE_BEGINS").bytes(),
        10,
        REFUSED,
        says="missing: EPISTART",
    ),
    Bad(
        "a renamed identifiable column",
        lambda m: m.text.renamed("NEWNHSNO", "PATIENT_NUMBER").bytes(),
        10,
        REFUSED,
        says="unknown: PATIENT_NUMBER",
    ),
    Bad("no person id", lambda m: m.text.without("TOKEN_PERSON_ID").bytes(), 10, REFUSED),
    Bad("a column twice", lambda m: m.text.renamed("SEX", "ETHNOS").bytes(), 10, REFUSED),
    Bad("no header", lambda m: m.text.bytes().split(b"\n", 1)[1], 10, REFUSED, says="not a header"),
    Bad(
        "a name column",
        lambda m: m.text.with_column("PATIENT_SURNAME", "Wardwatchcanary").bytes(),
        11,
        FORBIDDEN,
        incident=IncidentType.OVER_DELIVERY,
    ),
    Bad(
        "an address column, encrypted",
        lambda m: m.sealed(m.text.with_column("Address Line 1", "1 Wardwatchcanary").bytes()),
        11,
        FORBIDDEN,
        incident=IncidentType.OVER_DELIVERY,
    ),
    Bad(
        "a name column in a file of nobody knows what",
        lambda m: b"NUMBER,SURNAME,X\n1,Wardwatchcanary,2\n",
        11,
        FORBIDDEN,
        name="patients.csv",
        incident=IncidentType.OVER_DELIVERY,
        says="column 2",
    ),
    Bad(
        "a name column and no person id",
        lambda m: m.text.without("TOKEN_PERSON_ID").with_column("SURNAME", "Wardwatchcanary").bytes(),
        11,
        FORBIDDEN,
        incident=IncidentType.OVER_DELIVERY,
        says="SURNAME",
    ),
    Bad(
        "a name column and broken records",
        lambda m: m.text.with_column("SURNAME", '"Wardwatchcanary\n').bytes(),
        11,
        FORBIDDEN,
        incident=IncidentType.OVER_DELIVERY,
    ),
    # Ciphertext
    Bad(
        "sealed to another key",
        lambda m: m.sealed(key=_new_key()),
        12,
        CANNOT_OPEN,
        incident=IncidentType.WRONG_KEY,
    ),
    *(
        Bad(f"cut {where}", make, 12, DAMAGED, incident=IncidentType.DAMAGED_DELIVERY)
        for where, make in (
            ("in its header", lambda m: m.sealed()[:60]),
            ("behind its header", lambda m: m.sealed()[: _body(m.sealed())]),
            ("in the middle", _cut(0.5)),
            ("by its last byte", _cut(1.0, 1)),
            ("by its last chunk's tag", _cut(1.0, 16)),
        )
    ),
    *(
        Bad(f"changed {where}", _flipped(at), 12, DAMAGED, incident=IncidentType.DAMAGED_DELIVERY)
        for where, at in (
            ("in its header's seal", lambda sealed: sealed.index(b"--- ") + 10),
            ("in its first chunk", lambda sealed: _body(sealed) + 40),
            ("in its last byte", lambda sealed: len(sealed) - 1),
        )
    ),
    Bad(
        "bytes behind the end",
        lambda m: m.sealed() + b"x",
        12,
        DAMAGED,
        incident=IncidentType.DAMAGED_DELIVERY,
    ),
    # Where the header says for whom it is sealed, damage looks like another key.
    Bad(
        "changed in its header",
        _another_letter(lambda sealed: sealed.index(b"X25519") + 20),
        12,
        CANNOT_OPEN,
        incident=IncidentType.WRONG_KEY,
    ),
    Bad("sealed twice", lambda m: m.sealed(m.sealed()), 14, UNSAFE),
    # Form
    Bad("nothing in it", lambda m: b"", 10, REFUSED, says="empty"),
    Bad("nothing in the envelope", lambda m: m.sealed(b""), 10, REFUSED, says="empty"),
    Bad(
        "a header alone", lambda m: m.text.bytes().split(b"\n", 1)[0] + b"\n", 10, REFUSED, says="no records"
    ),
    Bad(
        "two delimiters in the header",
        lambda m: m.text.bytes().replace(b",", b"|", 3),
        10,
        REFUSED,
        says="delimiter",
    ),
    Bad("another delimiter half way", _two_halves, 10, REFUSED, says="delimiter"),
    Bad(
        "UTF-16 with its mark", lambda m: m.text.bytes().decode().encode("utf-16"), 10, REFUSED, says="UTF-16"
    ),
    Bad(
        "UTF-16 without a mark",
        lambda m: m.text.bytes().decode().encode("utf-16-le"),
        10,
        REFUSED,
        says="UTF-16",
    ),
    Bad(
        "NUL bytes in the header",
        lambda m: m.text.bytes().replace(b"SEX", b"SE\0X", 1),
        10,
        REFUSED,
        says="NUL",
    ),
    Bad(
        "NUL bytes in most records",
        _spoilt_lines(lambda line: line + b"\0", NUL_ROWS),
        10,
        REFUSED,
        says="NUL",
    ),
    Bad(
        "a line end inside a field",
        lambda m: m.text.filled("ETHNOS", '"A\nB"').bytes(),
        10,
        REFUSED,
    ),
    Bad(
        "a line end inside one field of one record",
        _spoilt_lines(lambda line: line.replace(b",", b',"A\nB"', 1), 1),
        10,
        REFUSED,
        says="quotation marks",
    ),
    Bad(
        "carriage returns alone", lambda m: m.text.bytes().replace(b"\n", b"\r"), 10, REFUSED, says="carriage"
    ),
    Bad(
        "a header in Latin-1",
        lambda m: m.text.bytes().replace(b"SEX", b"S\xc9X", 1),
        10,
        REFUSED,
        says="UTF-8",
    ),
    # What it is
    Bad(
        "another year in PARTYEAR than in the name",
        lambda m: m.text.filled("PARTYEAR", "201999").bytes(),
        13,
        CONFLICT,
        says="201999",
    ),
    Bad(
        "two years in PARTYEAR and none in the name",
        _spoilt_lines(lambda line: line.replace(b"202199", b"202099"), 3),
        10,
        REFUSED,
        name="NIC359603_HES_APC.txt",
    ),
    Bad("a submission that does not exist", lambda m: m.text.bytes(), 10, REFUSED, name="HES_APC_202177.txt"),
    Bad("two datasets in the name", lambda m: m.text.bytes(), 10, REFUSED, name="HES_OP_HES_AE_202199.txt"),
    Bad(
        "neither name nor header shows the dataset",
        lambda m: b"ALPHA,BETA\n1,2\n",
        10,
        REFUSED,
        name="upload.txt",
    ),
    Bad(
        "an identifier in the file's name",
        lambda m: m.text.without("EPIKEY").bytes(),
        10,
        REFUSED,
        name=f"HES_APC_202199_{TYPED_BY_MISTAKE}.txt",
    ),
    # Archives
    Bad("a member outside", lambda m: m.zipped(("../../" + NAME, m.text.bytes())), 14, UNSAFE),
    Bad("a member with an absolute path", lambda m: m.zipped(("/tmp/" + NAME, m.text.bytes())), 14, UNSAFE),
    Bad("a member on a drive", lambda m: m.zipped(("C:\\" + NAME, m.text.bytes())), 14, UNSAFE),
    Bad("a member that is a link", lambda m: m.zipped((_link_member(), b"/etc/passwd")), 14, UNSAFE),
    Bad("a member twice", lambda m: m.zipped((NAME, m.text.bytes()), (NAME, b"other")), 14, UNSAFE),
    Bad(
        "an archive in an archive",
        lambda m: m.zipped(("a.zip", m.zipped((NAME, m.text.bytes())))),
        14,
        UNSAFE,
    ),
    Bad("a gzip in a zip", lambda m: m.zipped((NAME + ".gz", gzip.compress(m.text.bytes()))), 14, UNSAFE),
    Bad(
        "an archive in an archive, sealed",
        lambda m: m.sealed(m.zipped(("a.zip", m.zipped((NAME, b"x"))))),
        14,
        UNSAFE,
    ),
    Bad(
        "a bomb",
        lambda m: m.zipped((NAME, m.text.bytes() + b"," * (70 * MEBIBYTE))),
        14,
        UNSAFE,
        says="200 times",
    ),
    Bad("a bomb of one stream", lambda m: gzip.compress(_many_records(m)), 14, UNSAFE, says="200 times"),
    Bad("another archive format", _tar, 14, UNSAFE),
    Bad(
        "a good file beside a bad one",
        lambda m: m.zipped((NAME, m.text.bytes()), _without_key(m)),
        10,
        REFUSED,
    ),
    Bad(
        "two files for one year",
        lambda m: m.zipped((NAME, m.text.bytes()), ("again_HES_APC_202199.txt", m.text.first(9).bytes())),
        13,
        CONFLICT,
    ),
]
BAD_IDS = [bad.id for bad in BAD]


# The bench: one workspace for all of them, since none may leave anything behind -----------------------------


@dataclass
class Bench:
    """A finished workspace, the makings of bad files, and a search for every value in them."""

    workspace: Workspace
    making: Making
    folder: Path
    search: Sweep

    def bad_file(self, bad: Bad) -> Path:
        folder = self.folder / hashlib.sha256(bad.id.encode()).hexdigest()[:12]
        folder.mkdir()
        path = folder / bad.name
        path.write_bytes(bad.make(self.making))
        return path

    def assert_silent(self, ran: Ran, label: str, *written: Path) -> None:
        """No value of the small extract in what a command said or in ``written``."""
        self.search.data(ran.said, f"{label} said")
        for path in written:
            self.search.file(path, f"{label} wrote {path.parent.name}/{path.name}")
            self.search.data(path.name, f"{label} named a file")
        hits = [str(hit) for hit in self.search.report().hits if hit.where.startswith(label)]
        assert not hits, "\n".join(hits)


def secrets(text: Text) -> list[Canary]:
    found = list(text.secrets())
    assert len({canary.kind for canary in found}) >= 6, "the small extract has no values to look for"
    return [*found, Canary("typed", TYPED_BY_MISTAKE), Canary("name", "Wardwatchcanary")]


def kept(workspace: Workspace) -> dict[str, str]:
    """Every file that a refusal may not touch, with its digest: all but the books about what happened."""
    books = ("audit/", "incidents/", "landing/refused/", ".writer.lock")
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree(workspace.root)
        if not (name := path.relative_to(workspace.root).as_posix()).startswith(books)
    }


def books(workspace: Workspace) -> list[Path]:
    return [
        path
        for folder in (
            workspace.zone("audit"),
            workspace.zone("incidents"),
            workspace.zone("landing") / "refused",
        )
        if folder.is_dir()
        for path in tree(folder)
    ]


@pytest.fixture(scope="module")
def making(plain_extracts: Extracts, empty_template: Workspace) -> Making:
    return Making(small(plain_extracts.one("HES_APC_202199")), recipient(empty_template))


@pytest.fixture(scope="module")
def bench(finished_template: Workspace, making: Making, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("bench") / "workspace"
    shutil.copytree(finished_template.root, root, symlinks=True)
    return Bench(Workspace.open(root), making, tmp_path_factory.mktemp("bad"), Sweep(secrets(making.text)))


def incident_types(workspace: Workspace) -> list[IncidentType]:
    return [incident.type for incident in list_incidents(workspace.zone("incidents"))]


# Landing by hand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD, ids=BAD_IDS)
def test_a_bad_file_is_refused_in_one_line_and_leaves_nothing(bench: Bench, bad: Bad) -> None:
    path = bench.bad_file(bad)
    content, before = path.read_bytes(), kept(bench.workspace)
    incidents_before, books_before = incident_types(bench.workspace), set(books(bench.workspace))

    ran = wardwatch(bench.workspace.root, "land", path)

    assert ran.exit_code == bad.exit_code, ran.err
    assert ran.error.startswith(f"wardwatch: [{bad.code}] "), ran.error
    assert bad.says in ran.error, ran.error
    assert path.read_bytes() == content, "a file that was landed by hand stays where it is"
    assert kept(bench.workspace) == before, "nothing may be kept of a refused file"
    new_incidents = incident_types(bench.workspace)[len(incidents_before) :]
    assert new_incidents == ([bad.incident] if bad.incident else [])
    receipt = bench.workspace.zone("landing") / "refused" / f"{hashlib.sha256(content).hexdigest()}.json"
    assert receipt.is_file(), "a refusal has a receipt"
    changed = {*books(bench.workspace)} - books_before | {receipt, *tree(bench.workspace.zone("audit"))}
    bench.assert_silent(ran, bad.id, *sorted(changed))


@pytest.mark.parametrize(
    "bad",
    [bad for bad in BAD if bad.id not in ("a good file beside a bad one", "two files for one year")],
    ids=lambda bad: bad.id,
)
def test_a_check_says_the_same_and_writes_nothing_at_all(bench: Bench, bad: Bad) -> None:
    folder = bench.folder / f"check {hashlib.sha256(bad.id.encode()).hexdigest()[:12]}"
    folder.mkdir()
    path = folder / bad.name
    path.write_bytes(bad.make(bench.making))
    everything = {path: path.read_bytes() for path in tree(bench.workspace.root)}

    ran = wardwatch(bench.workspace.root, "check", path)

    assert ran.exit_code == bad.exit_code, ran.err
    assert ran.error.startswith(f"wardwatch: [{bad.code}] "), ran.error
    assert {path: path.read_bytes() for path in tree(bench.workspace.root)} == everything
    bench.assert_silent(ran, f"checking {bad.id}")


# All of them in one inbox -----------------------------------------------------------------------------------

GOOD = "NIC359603_HES_OP_202199.txt"


@dataclass
class Inbox:
    """A night over all bad files and one good one: ``files`` by the id of what is bad."""

    bench: Bench
    files: dict[str, tuple[Path, bytes]]
    first: Ran
    second: Ran
    deliveries: list[str]
    incidents: list[list[IncidentType]]


@pytest.fixture(scope="module")
def inbox(
    finished_template: Workspace,
    plain_extracts: Extracts,
    making: Making,
    tmp_path_factory: pytest.TempPathFactory,
) -> Inbox:
    root = tmp_path_factory.mktemp("inbox") / "workspace"
    shutil.copytree(finished_template.root, root, symlinks=True)
    workspace = Workspace.open(root)
    files = {}
    for number, bad in enumerate(BAD):
        path = workspace.zone("inbox") / f"{number:02}_{bad.name}"
        path.write_bytes(bad.make(making))
        files[bad.id] = (path, path.read_bytes())
    (workspace.zone("inbox") / GOOD).write_bytes(small(plain_extracts.one("HES_OP_202199")).bytes())
    (workspace.zone("inbox") / "a_link_HES_OP_202199.txt").symlink_to("/etc/passwd")
    (workspace.zone("inbox") / "NIC359603_HES_OP_202210.txt.part").write_bytes(b"half of it")
    for path in workspace.zone("inbox").iterdir():
        if not path.is_symlink():
            settle(path)
    bench = Bench(workspace, making, root.parent, Sweep(secrets(making.text)))
    first = wardwatch(root, "nightly", clock=Clock().later(days=1))
    incidents = [incident_types(workspace)]
    second = wardwatch(root, "nightly", clock=Clock().later(days=2))
    incidents.append(incident_types(workspace)[len(incidents[0]) :])
    rows = committed_deliveries(
        workspace.zone("lake"), keyring(workspace).lake_metadata_key, workspace.zone("tmp")
    )
    return Inbox(bench, files, first, second, [row.delivery_id for row in rows], incidents)


@pytest.mark.parametrize("bad", BAD, ids=BAD_IDS)
def test_in_a_night_each_bad_file_has_one_line_and_stays(inbox: Inbox, bad: Bad) -> None:
    path, content = inbox.files[bad.id]
    lines = inbox.first.lines_with(f"inbox: {safe_name(path.name)}: [{bad.code}] ")
    assert len(lines) == 2, "once when it happens, once in the list of problems at the end"
    assert bad.says in lines[0]
    if bad.code == FORBIDDEN:
        assert not path.exists(), "a file with a forbidden column may not lie about"
    else:
        assert path.read_bytes() == content, "a refused file is not lost"


def test_a_night_of_bad_files_takes_the_good_one_and_says_how_it_ended(inbox: Inbox) -> None:
    workspace = inbox.bench.workspace
    first_problem = min(BAD, key=lambda bad: inbox.files[bad.id][0].name)
    assert inbox.first.exit_code == first_problem.exit_code, inbox.first.err
    assert f"{len(BAD)} delivery problem(s):" in inbox.first.out
    taken = [name for name in inbox.deliveries if name.startswith("hes_op-202199-")]
    assert len(taken) == 1, "a bad file does not stop the others"
    assert not (workspace.zone("inbox") / GOOD).exists()
    assert "published internally as run" in inbox.first.out


def test_a_night_of_bad_files_keeps_nothing_of_them(inbox: Inbox) -> None:
    workspace = inbox.bench.workspace
    landed = {path.name for path in workspace.zone("landing").iterdir()} - {"refused"}
    assert landed == set(inbox.deliveries), "nothing landed but what is in the lake"
    assert {path.name for path in workspace.zone("vault").iterdir()} <= set(inbox.deliveries)
    assert {path.stem for path in workspace.zone("linkage").iterdir()} <= set(inbox.deliveries)
    assert list(workspace.zone("tmp").iterdir()) == []
    written = [
        path
        for path in tree(workspace.root)
        if path.relative_to(workspace.root).parts[0] not in ("inbox", "keys", "officers")
    ]
    inbox.bench.assert_silent(inbox.first, "the night", *written)


def test_links_and_unfinished_uploads_are_left_for_the_next_night(inbox: Inbox) -> None:
    for name, why in (
        ("a_link_HES_OP_202199.txt", "not an ordinary file"),
        ("NIC359603_HES_OP_202210.txt.part", "in transfer"),
    ):
        assert inbox.first.lines_with(f"inbox: {name}: left for the next run ({why})")
        assert (inbox.bench.workspace.zone("inbox") / name).is_symlink() or "part" in name


def test_the_same_bad_files_a_night_later_are_the_same_problems_but_no_new_incidents(inbox: Inbox) -> None:
    stay = [bad for bad in BAD if bad.code != FORBIDDEN]
    assert f"{len(stay)} delivery problem(s):" in inbox.second.out
    assert "nothing new" in inbox.second.out
    assert sorted(inbox.incidents[0]) == sorted(bad.incident for bad in BAD if bad.incident)
    assert inbox.incidents[1] == [], "a file that was seen before is not a new incident every night"


# What can be judged only when all of it was read ------------------------------------------------------------


@dataclass
class Judged:
    """A night over deliveries that land and then break their rules, and a second one after it."""

    workspace: Workspace
    rows: dict[str, CommittedDelivery]
    quarantine: dict[str, list[tuple[int, str]]]
    first: Ran
    second: Ran
    status: Ran
    search: Sweep


def _line_end_far_behind(text: Text) -> bytes:
    """Two megabytes of good records, and at their end one with a line end inside a field."""
    at, rows = text.at("ATTENDKEY"), []
    for number in range(2 * MEBIBYTE // (len(text.bytes()) // len(text.rows)) + 1):
        row = text.rows[number % len(text.rows)]
        rows.append((*row[:at], f"7{number:018}", *row[at + 1 :]))
    lines = replace(text, rows=tuple(rows)).bytes()
    return lines + ",".join(text.rows[0]).replace(",", ',"A\nB"', 1).encode() + b"\n"


def _each_kind_of_broken_row(text: Text) -> bytes:
    """Records 10, 20, ... broken one way each; see ``BROKEN``."""
    text = (
        text.changed(50, "EPIKEY", "").changed(60, "EPISTART", "31/02/2022").changed(70, "EPIKEY", "1" * 25)
    )
    text = text.changed(80, "EPIKEY", text.rows[78][text.at("EPIKEY")])
    lines = text.bytes().split(b"\n")
    lines[10] = lines[10].rsplit(b",", 5)[0]
    lines[20] += b",and,more"
    lines[30] = lines[30].replace(b",", b",\0", 1)
    lines[40] = lines[40].replace(b",", b",\xff\xfe", 1)
    return b"\n".join(lines)


BROKEN = [
    (10, "HES_APC.VOLUME.readable_rows"),
    (20, "HES_APC.VOLUME.readable_rows"),
    (30, "HES_APC.VOLUME.readable_rows"),
    (40, "HES_APC.VOLUME.readable_rows"),
    (50, "HES_APC.R01"),
    (60, "HES_APC.R04"),
    (70, "HES_APC.R02"),
    (80, "HES_APC.R15"),
]


@pytest.fixture(scope="module")
def judged(
    finished_template: Workspace, plain_extracts: Extracts, tmp_path_factory: pytest.TempPathFactory
) -> Judged:
    root = tmp_path_factory.mktemp("judged") / "workspace"
    shutil.copytree(finished_template.root, root, symlinks=True)
    workspace = Workspace.open(root)
    apc = small(plain_extracts.one("HES_APC_202199"), 900)
    op = small(plain_extracts.one("HES_OP_202199"), 100)
    late = small(plain_extracts.one("HES_OP_202212"), 150)
    short = op.bytes().split(b"\n")
    for number in (5, 50, 95):
        short[number] = short[number].rsplit(b",", 1)[0]
    files = {
        "A_HES_APC_202199.txt": _each_kind_of_broken_row(apc),
        "B_HES_APC_201999.txt": apc.first(40).filled("PARTYEAR", "201999").bytes(),
        "C_HES_OP_202199.txt": b"\n".join(short),
        "D_HES_OP_202212.txt": b"\xef\xbb\xbf" + late.bytes(),
        "E_HES_OP_202399.txt": _line_end_far_behind(op.filled("PARTYEAR", "202399")),
    }
    for name, content in files.items():
        (workspace.zone("inbox") / name).write_bytes(content)
        settle(workspace.zone("inbox") / name)
    first = wardwatch(root, "nightly", clock=Clock().later(days=1))
    key, tmp = keyring(workspace).lake_metadata_key, workspace.zone("tmp")
    rows = committed_deliveries(workspace.zone("lake"), key, tmp)
    by_name = {
        name: next(row for row in rows if row.content_sha256 == hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    }
    with reading(workspace.zone("lake"), key, memory_limit="200MB", temp_folder=tmp) as connection:
        answer = connection.execute("SELECT * FROM lake.quarantine ORDER BY record_ordinal, rule_id")
        assert [column[0] for column in answer.description] == ["delivery_id", "record_ordinal", "rule_id"]
        quarantine: dict[str, list[tuple[int, str]]] = {}
        for delivery, ordinal, rule in answer.fetchall():
            quarantine.setdefault(delivery, []).append((ordinal, rule))
    with pytest.MonkeyPatch.context() as forbidding:
        forbidding.setattr(Landing, "open_plaintext", _nobody_reads)
        second = wardwatch(root, "nightly", clock=Clock().later(days=2))
    search = Sweep([*apc.secrets(), *op.secrets(), Canary("date", "31/02/2022")])
    return Judged(workspace, by_name, quarantine, first, second, wardwatch(root, "status"), search)


def _nobody_reads(_landing: Landing, delivery: str) -> None:
    raise AssertionError(f"{delivery} was read again")


def test_a_broken_record_is_quarantined_by_ordinal_and_rule_and_the_others_are_used(judged: Judged) -> None:
    row = judged.rows["A_HES_APC_202199.txt"]
    assert judged.quarantine[row.delivery_id] == BROKEN
    assert (row.status, row.rows_in, row.rows_quarantined) == ("current", 900, len(BROKEN))
    assert row.rows_kept == 900 - len(BROKEN)
    assert row.rows_vaulted == row.rows_kept, "what is not used does not go to the vault either"


def test_of_two_records_with_one_key_the_later_is_left_out(judged: Judged) -> None:
    quarantined = dict(judged.quarantine[judged.rows["A_HES_APC_202199.txt"].delivery_id])
    assert quarantined.get(80) == "HES_APC.R15"
    assert 79 not in quarantined, "the first one stays"


def test_a_byte_order_mark_is_no_part_of_the_first_column(judged: Judged) -> None:
    row = judged.rows["D_HES_OP_202212.txt"]
    assert (row.status, row.rows_in, row.rows_kept) == ("current", 150, 150)


REFUSED_AT_INGEST = [
    ("B_HES_APC_201999.txt", CRITICAL, "HES_APC.R12"),
    ("C_HES_OP_202199.txt", CRITICAL, "HES_OP.VOLUME.readable_rows"),
    ("E_HES_OP_202399.txt", REFUSED, "odd number of quotation marks"),
]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    REFUSED_AT_INGEST,
    ids=["episodes of another year", "too many broken records", "a line end inside a field far behind"],
)
def test_a_delivery_that_cannot_be_used_is_refused_after_it_landed(
    judged: Judged, name: str, code: str, says: str
) -> None:
    row = judged.rows[name]
    lines = judged.first.lines_with(f"{row.delivery_id}: [{code}] ")
    assert len(lines) == 2, "once when it happens, once in the list of problems at the end"
    assert says in lines[0]
    assert (row.status, row.rows_kept, row.table_name) == ("refused", 0, "")
    assert (judged.workspace.zone("landing") / row.delivery_id).is_dir(), "it stays landed, to be looked at"
    assert not (judged.workspace.zone("vault") / row.delivery_id).exists()
    assert row.delivery_id not in judged.quarantine, "nothing of it is in the lake"


def test_the_night_ends_with_the_code_of_its_first_problem(judged: Judged) -> None:
    assert judged.first.exit_code == 15, "a critical rule"


def test_a_refused_delivery_is_remembered_and_not_read_again(judged: Judged) -> None:
    assert judged.second.exit_code == 0, judged.second.err
    assert "nothing new" in judged.second.out


def test_status_shows_what_was_refused(judged: Judged) -> None:
    for name, _code, _says in REFUSED_AT_INGEST:
        assert judged.status.lines_with(f"{judged.rows[name].delivery_id}: refused")


def test_nothing_of_a_refused_record_is_told_anywhere(judged: Judged) -> None:
    for ran in (judged.first, judged.second, judged.status):
        judged.search.data(ran.said, "said")
    for path in tree(judged.workspace.root):
        judged.search.file(path, path.relative_to(judged.workspace.root).as_posix())
    assert [str(hit) for hit in judged.search.report().hits] == []


# When nothing may be landed at all --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starts", "ends", "options", "says"),
    [
        ("2000-01-01", "2026-11-19", (), "not in force today"),
        ("2026-11-21", "2099-12-31", (), "not in force today"),
        (
            "2000-01-01",
            "2099-12-31",
            ("--agreement", "NIC-000000"),
            "not the one this workspace holds data under",
        ),
    ],
    ids=["expired", "not begun", "another one"],
)
def test_without_an_agreement_in_force_nothing_is_landed(
    finished_workspace: Workspace, making: Making, starts: str, ends: str, options: tuple[str, ...], says: str
) -> None:
    settings = finished_workspace.root / "settings.yaml"
    document = yaml.safe_load(settings.read_text(encoding="utf-8"))
    document["agreement"] |= {"starts": starts, "ends": ends}
    settings.write_text(yaml.safe_dump(document), encoding="utf-8")
    path = finished_workspace.zone("inbox") / NAME
    path.write_bytes(making.text.bytes())
    before = kept(finished_workspace)

    ran = wardwatch(finished_workspace.root, "land", path, *options)

    assert ran.exit_code == 10
    assert says in ran.error
    assert kept(finished_workspace) == before


@pytest.mark.parametrize("command", ["nightly", "land"])
def test_while_another_run_writes_nothing_is_begun(
    finished_workspace: Workspace, making: Making, command: str
) -> None:
    path = finished_workspace.zone("inbox") / NAME
    path.write_bytes(making.text.bytes())
    before = kept(finished_workspace)
    with finished_workspace.writer_lock():
        ran = wardwatch(finished_workspace.root, command, *([path] if command == "land" else []))
    assert ran.exit_code == 30
    assert ran.error.startswith("wardwatch: [workspace.busy] ")
    assert kept(finished_workspace) == before
