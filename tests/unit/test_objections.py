"""The records of persons who objected leave a delivery first, and nobody can read off the list who they are."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.audit import AuditLog, read
from infra.keyring import Keyring
from infra.objections import (
    FOLDER,
    LIST,
    is_objection_list,
    load_list,
    objection_key,
    objections_in_force,
    read_list,
)
from infra.sealing import seal
from infra.workspace import Agreement, Settings, Workspace
from schemas.errors import CannotOpen, DeliveryRefused, IntegrityError, KeyUnavailable, WorkspaceError
from schemas.loader import load_contracts
from transforms.objections import (
    IdKind,
    Objections,
    heading_kinds,
    id_columns,
    leaving,
    normalised,
    objection_tokens,
    without,
)
from transforms.tokens import person_tokens

NOW = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)
KEY = bytes(range(32))
COLUMNS = {"TOKEN_PERSON_ID": IdKind.PERSON_ID, "NEWNHSNO": IdKind.NHS_NUMBER}
# Of the range of test numbers, valid check digits.
NUMBERS = ("9990000018", "9990000026", "9990000034")


def objections(**ids: list[str]) -> Objections:
    return Objections.of(
        {
            IdKind(kind): objection_tokens(pl.Series(texts, dtype=pl.String), KEY, IdKind(kind))
            for kind, texts in ids.items()
        }
    )


def chunk(*rows: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows), schema={"TOKEN_PERSON_ID": pl.String, "NEWNHSNO": pl.String}, orient="row"
    ).with_row_index("n")


def left(frame: pl.DataFrame, listed: Objections) -> list[int]:
    """Numbers of the rows that leave."""
    leaves = leaving(frame, COLUMNS, KEY, listed)
    return [] if leaves is None else frame.filter(leaves)["n"].to_list()


# Who leaves -------------------------------------------------------------------------------------------


def test_a_row_leaves_if_its_person_id_or_its_nhs_number_is_on_the_list() -> None:
    frame = chunk(
        ("ANNE", None),
        ("BERT", NUMBERS[0]),
        ("BERT", None),
        (" ANNE ", NUMBERS[1]),
        (None, NUMBERS[1]),
        (None, None),
        ("", ""),
        ("anne", None),
    )
    assert left(frame, objections(person_id=["ANNE"])) == [0, 3]
    assert left(frame, objections(nhs_number=[NUMBERS[1]])) == [3, 4]
    assert left(frame, objections(person_id=["ANNE"], nhs_number=[NUMBERS[1]])) == [0, 3, 4]
    assert left(frame, objections(person_id=["CARL"])) == []
    assert left(frame, objections(person_id=[""], nhs_number=["0000000000", ""])) == []


@pytest.mark.parametrize("written", ["999 000 0018", "999-000-0018", " 9990000018", "9990000018\t"])
def test_an_nhs_number_is_the_same_however_it_is_written_on_either_side(written: str) -> None:
    assert left(chunk(("X", NUMBERS[0])), objections(nhs_number=[written])) == [0]
    assert left(chunk(("X", written)), objections(nhs_number=[NUMBERS[0]])) == [0]


@pytest.mark.parametrize("nobody", ["0000000000", "1111111111", "9999999999", "", "-", "99900000"])
def test_a_placeholder_or_a_broken_number_stands_for_nobody(nobody: str) -> None:
    assert normalised(pl.Series([nobody]), IdKind.NHS_NUMBER).to_list() == [None]
    assert left(chunk(("X", nobody)), objections(nhs_number=[nobody])) == []


def test_the_same_text_as_another_kind_of_id_is_another_token() -> None:
    assert left(chunk((NUMBERS[0], None)), objections(nhs_number=[NUMBERS[0]])) == []
    assert left(chunk(("X", NUMBERS[0])), objections(person_id=[NUMBERS[0]])) == []


def test_a_column_that_is_not_there_and_an_empty_list_leave_everything() -> None:
    frame = chunk(("ANNE", None)).drop("NEWNHSNO")
    assert left(frame, objections(nhs_number=[NUMBERS[0]], person_id=["ANNE"])) == [0]
    assert leaving(frame, COLUMNS, KEY, objections()) is None
    assert leaving(frame.clear(), COLUMNS, KEY, objections(person_id=["ANNE"])) is None
    assert leaving(frame, {}, KEY, objections(person_id=["ANNE"])) is None


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["A", " A", "B", "C", "", None]), st.sampled_from([*NUMBERS, "", None])),
        max_size=30,
    ),
    persons=st.sets(st.sampled_from("ABCD")),
    numbers=st.sets(st.sampled_from(NUMBERS)),
)
def test_who_leaves_is_who_a_plain_loop_finds(
    rows: list[tuple[str | None, str | None]], persons: set[str], numbers: set[str]
) -> None:
    expected = [
        number
        for number, (person, nhs_number) in enumerate(rows)
        if (person is not None and person.strip() in persons) or nhs_number in numbers
    ]
    listed = objections(person_id=sorted(persons), nhs_number=sorted(numbers))
    assert left(chunk(*rows), listed) == expected


def test_a_long_list_is_asked_by_whole_tokens_also_where_their_beginnings_are_equal() -> None:
    tokens = pl.Series([f"{n % 3:016x}{n:016x}" for n in range(60)])
    listed = Objections.of({IdKind.PERSON_ID: tokens})
    other = pl.Series([f"{n % 3:016x}{n + 60:016x}" for n in range(60)] + [None])
    assert listed.on_list(tokens.sample(fraction=1, shuffle=True, seed=1), IdKind.PERSON_ID).all()
    assert not listed.on_list(other, IdKind.PERSON_ID).any()
    assert len(listed) == 60


def test_what_stays_keeps_its_place_in_the_file() -> None:
    frame = chunk(("A", None), ("B", None), ("A", None), ("C", None))
    leaves = leaving(frame, COLUMNS, KEY, objections(person_id=["A"]))
    kept, positions, count = without(frame, None, leaves)
    assert (kept["n"].to_list(), positions.to_list() if positions is not None else None, count) == (
        [1, 3],
        [1, 3],
        2,
    )
    # Two broken lines were taken out of the chunk before: lines 0 and 4.
    kept, positions, count = without(frame, pl.Series([1, 2, 3, 5], dtype=pl.UInt32), leaves)
    assert positions is not None
    assert positions.to_list() == [2, 5]
    assert without(frame, None, None) == (frame, None, 0)


def test_every_dataset_with_a_person_in_it_says_which_columns_tell_whose_record_it_is() -> None:
    for contract in load_contracts().values():
        columns = id_columns(contract.fields)
        assert columns, f"{contract.id} has no column by which an objection could be honoured"
        if contract.person_id is not None:
            assert columns[contract.person_id] is IdKind.PERSON_ID


def test_a_token_is_the_hmac_of_the_kind_and_the_id_and_joins_with_no_other_token() -> None:
    (token,) = objection_tokens(pl.Series([" ANNE "]), KEY, IdKind.PERSON_ID)
    assert token == hmac.new(KEY, b"objection-person-id\0ANNE", hashlib.sha256).hexdigest()[:32]
    assert token not in person_tokens(pl.Series(["ANNE"]), KEY).to_list()
    with pytest.raises(KeyUnavailable):
        objection_tokens(pl.Series(["ANNE"]), b"short", IdKind.PERSON_ID)


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("NHS_NUMBER", [IdKind.NHS_NUMBER]),
        ("nhs number\r", [IdKind.NHS_NUMBER]),
        ('\ufeff"TOKEN_PERSON_ID","NEWNHSNO"', [IdKind.PERSON_ID, IdKind.NHS_NUMBER]),
        ("9990000018", None),
        ("", None),
        ("NHS_NUMBER,SURNAME", None),
    ],
)
def test_a_heading_says_what_the_ids_are_or_the_list_is_not_taken(
    line: str, kinds: list[IdKind] | None
) -> None:
    assert heading_kinds(line) == kinds


# The list of a workspace ------------------------------------------------------------------------------


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.create(tmp_path / "keys", now=NOW)


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit", lambda: NOW, "p-001", "iao")


TEXT = b"PERSON_ID,NHS_NUMBER\nANNEANNE,9990000018\nBERTBERT,\n,999 000 0026\nANNEANNE,\nonly-this\n,\n"


def put(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "OBJECTIONS_20261122.csv.age"
    path.write_bytes(content)
    return path


def test_a_list_is_loaded_as_tokens_and_nothing_of_it_lies_or_is_logged_in_clear(
    tmp_path: Path, keyring: Keyring, audit: AuditLog
) -> None:
    folder = tmp_path / FOLDER
    loaded = load_list(
        folder, put(tmp_path, seal(TEXT, keyring.inbox_recipient)), keyring, audit=audit, now=NOW
    )

    assert loaded.counts() == {"lines": 6, "without_id": 1, "person_id": 3, "nhs_number": 2}
    leave_out = loaded.leave_out(load_contracts()["hes_apc_2021"].fields)
    frame = chunk(("ANNEANNE", None), ("X", NUMBERS[1]), ("Y", NUMBERS[2]))
    assert frame.filter(leave_out(frame))["n"].to_list() == [0, 1]  # type: ignore[arg-type]
    kept = b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path
    )
    for secret in (b"ANNEANNE", b"BERTBERT", b"9990000018", b"999 000 0026"):
        assert secret not in kept
    decompressed = pl.read_parquet(next(folder.glob("*.parquet"))).write_csv()
    assert "ANNE" not in decompressed
    assert "999000" not in decompressed
    assert "ANNE" not in repr(loaded)
    (event,) = read(audit.folder)
    assert (event.action, event.counts) == ("objections.load", loaded.counts())
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_the_tokens_of_the_list_join_with_nothing_in_the_lake(keyring: Keyring) -> None:
    assert objection_key(keyring) != keyring.linkage_token_key
    in_the_lake = person_tokens(pl.Series(["ANNEANNE"]), keyring.linkage_token_key)
    on_the_list = objection_tokens(pl.Series(["ANNEANNE"]), objection_key(keyring), IdKind.PERSON_ID)
    assert in_the_lake.to_list() != on_the_list.to_list()


def test_a_new_list_replaces_the_one_before(tmp_path: Path, keyring: Keyring, audit: AuditLog) -> None:
    folder = tmp_path / FOLDER
    path = put(tmp_path, seal(TEXT, keyring.inbox_recipient))
    first = load_list(folder, path, keyring, audit=audit, now=NOW)
    assert load_list(folder, path, keyring, audit=audit, now=NOW).digest == first.digest
    path = put(tmp_path, seal(b"NHS_NUMBER\n9990000034\n", keyring.inbox_recipient))
    second = load_list(folder, path, keyring, audit=audit, now=NOW)
    assert second.digest != first.digest
    assert read_list(folder, keyring) == second
    assert len(list(folder.glob("*.parquet"))) == 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"ANNEANNE\nBERTBERT\n", "first line"),
        (b"NHS_NUMBER\n\n\n", "holds no id"),
        (b"NHS_NUMBER\n0000000000\n123\n", "holds no id"),
        (b"NHS_NUMBER\n9990000018,ANNEANNE\n", "more ids than"),
        (b"NHS_NUMBER\n\xff\xfe\n", "UTF-8"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_without_a_word_of_it(
    tmp_path: Path, keyring: Keyring, audit: AuditLog, text: bytes, match: str
) -> None:
    path = put(tmp_path, seal(text, keyring.inbox_recipient))
    with pytest.raises(DeliveryRefused, match=match) as refused:
        load_list(tmp_path / FOLDER, path, keyring, audit=audit, now=NOW)
    assert "ANNE" not in str(refused.value)
    assert "999" not in str(refused.value)
    assert read_list(tmp_path / FOLDER, keyring) is None


def test_a_list_in_clear_for_another_key_or_cut_short_is_refused(
    tmp_path: Path, keyring: Keyring, audit: AuditLog
) -> None:
    folder = tmp_path / FOLDER
    with pytest.raises(DeliveryRefused, match="not encrypted"):
        load_list(folder, put(tmp_path, TEXT), keyring, audit=audit, now=NOW)
    other = Keyring.create(tmp_path / "other", now=NOW)
    with pytest.raises(CannotOpen):
        load_list(folder, put(tmp_path, seal(TEXT, other.inbox_recipient)), keyring, audit=audit, now=NOW)
    cut = put(tmp_path, bytes(seal(TEXT, keyring.inbox_recipient))[:-3])
    with pytest.raises(CannotOpen):
        load_list(folder, cut, keyring, audit=audit, now=NOW)
    assert read_list(folder, keyring) is None


def test_a_list_that_was_changed_exchanged_or_lost_is_noticed(
    tmp_path: Path, keyring: Keyring, audit: AuditLog
) -> None:
    folder = tmp_path / FOLDER
    load_list(folder, put(tmp_path, seal(TEXT, keyring.inbox_recipient)), keyring, audit=audit, now=NOW)
    pointer, data = folder / LIST, next(folder.glob("*.parquet"))
    good, good_data = pointer.read_bytes(), data.read_bytes()
    shorter = pl.read_parquet(data).head(1)
    shorter.write_parquet(data)
    with pytest.raises(IntegrityError):
        read_list(folder, keyring)
    data.unlink()
    with pytest.raises(IntegrityError):
        read_list(folder, keyring)
    data.write_bytes(good_data)
    document = json.loads(good)
    document["list"]["lines"] = 1
    for content in (json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), b"{}", b"[]", b""):
        pointer.write_bytes(content)
        with pytest.raises(IntegrityError):
            read_list(folder, keyring)
    pointer.write_bytes(good)
    assert read_list(folder, keyring) is not None


@pytest.mark.parametrize("point", ["before", "tokens_written", "list_written", "swept"])
def test_loading_killed_anywhere_leaves_the_old_list_or_the_new_and_the_next_loading_clears_up(
    tmp_path: Path, keyring: Keyring, audit: AuditLog, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    folder = tmp_path / FOLDER
    old = load_list(folder, put(tmp_path, seal(TEXT, keyring.inbox_recipient)), keyring, audit=audit, now=NOW)
    path = put(tmp_path, seal(b"NHS_NUMBER\n9990000034\n", keyring.inbox_recipient))

    def reached(name: str) -> None:
        if name == f"objections.{point}":
            raise KeyboardInterrupt

    monkeypatch.setattr("infra.commit_points.reached", reached)
    with pytest.raises(KeyboardInterrupt):
        load_list(folder, path, keyring, audit=audit, now=NOW)
    monkeypatch.undo()

    found = read_list(folder, keyring)
    assert found is not None
    assert (found == old) == (point in ("before", "tokens_written"))
    new = load_list(folder, path, keyring, audit=audit, now=NOW)
    assert read_list(folder, keyring) == new
    assert len(list(folder.iterdir())) == 2, "nothing is left but the tokens and what names them"


# Where the agreement says so --------------------------------------------------------------------------


@pytest.mark.parametrize("honours", [False, True])
def test_objections_are_honoured_where_the_agreement_says_so_and_then_nothing_is_taken_without_a_list(
    tmp_path: Path, keyring: Keyring, audit: AuditLog, monkeypatch: pytest.MonkeyPatch, honours: bool
) -> None:
    agreement = Agreement(
        reference="DEMO",
        title="Demonstration",
        demo=True,
        starts="2000-01-01",
        ends="2099-12-31",
        retention_days=9,
    )
    workspace = Workspace(tmp_path, Settings(agreement=agreement))
    monkeypatch.setattr("infra.objections.honours_objections", lambda _workspace: honours)
    if honours:
        with pytest.raises(WorkspaceError, match="there is no list"):
            objections_in_force(workspace, keyring)
    load_list(
        tmp_path / FOLDER, put(tmp_path, seal(TEXT, keyring.inbox_recipient)), keyring, audit=audit, now=NOW
    )
    found = objections_in_force(workspace, keyring)
    assert (found is not None) == honours


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("OBJECTIONS_20261122.csv.age", True),
        ("NIC359603_opt_outs.txt.gpg", True),
        ("opt-outs.age", True),
        ("NIC359603_HES_APC_202099.txt.age", False),
        ("REOBJECTIONSX.age", False),
    ],
)
def test_a_list_in_the_inbox_is_known_by_its_name(name: str, is_one: bool) -> None:
    assert is_objection_list(name) == is_one
