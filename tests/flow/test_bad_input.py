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
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest

from infra.incidents import IncidentType, list_incidents
from infra.workspace import Workspace
from tests.security.sweep import Canary, Sweep
from tests.support.command_line import Ran, wardwatch
from tests.support.small_deliveries import Text, small
from tests.support.workspaces import Extracts, recipient, tree

NAME = "NIC359603_HES_APC_202199.txt"
NUL_ROWS = 30  # of the forty: most of them
MEBIBYTE = 1 << 20
REFUSED, FORBIDDEN, CANNOT_OPEN = "delivery.refused", "delivery.forbidden_column", "delivery.cannot_open"
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


def _new_key() -> str:
    return str(pyrage.x25519.Identity.generate().to_public())


BAD = [
    # Columns
    Bad("an unknown column", lambda m: m.text.with_column("WARD_NOTES", "x").bytes(), 10, REFUSED, says="WARD_NOTES"),
    Bad(
        "a value where a column name belongs",
        lambda m: m.text.with_column(f"NO {TYPED_BY_MISTAKE}", "x").bytes(),
        10,
        REFUSED,
        says="column 170",
    ),
    Bad("a required column is missing", lambda m: m.text.without("EPIKEY").bytes(), 10, REFUSED, says="EPIKEY"),
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
    # Ciphertext
    Bad(
        "sealed to another key",
        lambda m: m.sealed(key=_new_key()),
        12,
        CANNOT_OPEN,
        incident=IncidentType.WRONG_KEY,
    ),
    *(
        Bad(f"cut {where}", make, 12, CANNOT_OPEN, incident=IncidentType.WRONG_KEY)
        for where, make in (
            ("in its header", lambda m: m.sealed()[:60]),
            ("behind its header", lambda m: m.sealed()[: _body(m.sealed())]),
            ("in the middle", _cut(0.5)),
            ("by its last byte", _cut(1.0, 1)),
            ("by its last chunk's tag", _cut(1.0, 16)),
        )
    ),
    *(
        Bad(f"changed {where}", _flipped(at), 12, CANNOT_OPEN, incident=IncidentType.WRONG_KEY)
        for where, at in (
            ("in its header", lambda sealed: sealed.index(b"X25519") + 20),
            ("in its header's seal", lambda sealed: sealed.index(b"--- ") + 10),
            ("in its first chunk", lambda sealed: _body(sealed) + 40),
            ("in its last byte", lambda sealed: len(sealed) - 1),
        )
    ),
    Bad("bytes behind the end", lambda m: m.sealed() + b"x", 12, CANNOT_OPEN, incident=IncidentType.WRONG_KEY),
    Bad("sealed twice", lambda m: m.sealed(m.sealed()), 14, UNSAFE),
    # Form
    Bad("nothing in it", lambda m: b"", 10, REFUSED, says="empty"),
    Bad("nothing in the envelope", lambda m: m.sealed(b""), 10, REFUSED, says="empty"),
    Bad("a header alone", lambda m: m.text.bytes().split(b"\n", 1)[0] + b"\n", 10, REFUSED, says="no records"),
    Bad("two delimiters in the header", lambda m: m.text.bytes().replace(b",", b"|", 3), 10, REFUSED, says="delimiter"),
    Bad("another delimiter half way", _two_halves, 10, REFUSED, says="delimiter"),
    Bad("UTF-16 with its mark", lambda m: m.text.bytes().decode().encode("utf-16"), 10, REFUSED, says="UTF-16"),
    Bad("UTF-16 without a mark", lambda m: m.text.bytes().decode().encode("utf-16-le"), 10, REFUSED, says="UTF-16"),
    Bad("NUL bytes in the header", lambda m: m.text.bytes().replace(b"SEX", b"SE\0X", 1), 10, REFUSED, says="NUL"),
    Bad("NUL bytes in most records", _spoilt_lines(lambda line: line + b"\0", NUL_ROWS), 10, REFUSED, says="NUL"),
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
    Bad("carriage returns alone", lambda m: m.text.bytes().replace(b"\n", b"\r"), 10, REFUSED, says="carriage"),
    Bad("a header in Latin-1", lambda m: m.text.bytes().replace(b"SEX", b"S\xc9X", 1), 10, REFUSED, says="UTF-8"),
    # What it is
    Bad(
        "another year in PARTYEAR than in the name",
        lambda m: m.text.filled("PARTYEAR", "201999").bytes(),
        13,
        CONFLICT,
        says="201999",
    ),
    Bad("two years in PARTYEAR and none in the name", _spoilt_lines(
        lambda line: line.replace(b"202199", b"202099"), 3), 10, REFUSED, name="NIC359603_HES_APC.txt"),
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
    Bad("an archive in an archive", lambda m: m.zipped(("a.zip", m.zipped((NAME, m.text.bytes())))), 14, UNSAFE),
    Bad("a gzip in a zip", lambda m: m.zipped((NAME + ".gz", gzip.compress(m.text.bytes()))), 14, UNSAFE),
    Bad("an archive in an archive, sealed", lambda m: m.sealed(m.zipped(("a.zip", m.zipped((NAME, b"x"))))), 14, UNSAFE),
    Bad("a bomb", lambda m: m.zipped((NAME, _many_records(m))), 14, UNSAFE, says="200 times"),
    Bad("a bomb of one stream", lambda m: gzip.compress(_many_records(m)), 14, UNSAFE, says="200 times"),
    Bad("another archive format", _tar, 14, UNSAFE),
    Bad("a good file beside a bad one", lambda m: m.zipped(
        (NAME, m.text.bytes()), ("NIC359603_HES_APC_202299.txt", m.text.without("EPIKEY").filled("PARTYEAR", "202299").bytes())), 10, REFUSED),
    Bad("two files for one year", lambda m: m.zipped(
        (NAME, m.text.bytes()), ("again_HES_APC_202199.txt", m.text.bytes() + b"\n".join(
            m.text.bytes().splitlines()[1:3]))), 13, CONFLICT),
]  # fmt: skip
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
