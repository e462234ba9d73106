"""The vault: written by the pipeline, opened by two officers together, and by nothing less.

Every identifier here is invented: NHS numbers from the test range 999, pseudo-postcodes in ZZ99.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from infra import commit_points, encrypted_parquet, vault
from infra.keyring import Keyring, read_key_file
from infra.officers import SHARE_ROLES, Officers, create_demo_officers, load_identity
from infra.sealing import SecretText, unseal
from infra.shares import join
from infra.signing import SigningKey, canonical_json
from infra.vault import VaultSummary, VaultWriter, folder_name, issuer_folder, status, sweep, verify
from infra.vault_opening import open_with_officers, open_with_shares, read_shares, shares_for
from schemas.errors import (
    CannotOpen,
    IntegrityError,
    StorageFull,
    UsageError,
    WardwatchError,
    WorkspaceError,
)

GOLDEN = Path(__file__).parents[1] / "fixtures" / "vault_golden"
DELIVERY = "hes_apc-201999-0123456789ab"
LATER_DELIVERY = "hes_apc-202099-ba9876543210"
ITEMS = ["nhs_number", "local_patient_identifier", "date_of_birth", "postcode"]
LPI = ["local_patient_identifier"]


def records(hospitals: dict[str | None, int], start: int = 0) -> pl.DataFrame:
    """So many records per hospital; each identifier carries the word CANARY or a number of the test range."""
    rows = [
        {
            "record_key": f"{500000000000 + start + number}",
            "issuer": issuer,
            "nhs_number": f"999{start + number:07d}",
            "local_patient_identifier": f"CANARY{start + number:06d}",
            "date_of_birth": f"1931-01-{number % 28 + 1:02d}",
            "postcode": None if number % 5 == 4 else f"ZZ99 {number % 10}ZZ",
        }
        for number, issuer in enumerate(issuer for issuer, count in hospitals.items() for _ in range(count))
    ]
    return pl.DataFrame(rows, schema={name: pl.String for name in ("record_key", "issuer", *ITEMS)})


@dataclass
class Workspace:
    root: Path
    keyring: Keyring
    officers: Officers

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def signers(self) -> dict[str, str]:
        return self.keyring.signers("manifest_signing")

    def identity(self, role: str) -> SecretText:
        """The private key of ``guardian``, ``siro``, or the deputy of one of them."""
        role = role.replace("guardian", "caldicott_guardian")
        return load_identity(self.root / "officers" / role / "identity.age-key")

    def writer(self, delivery_id: str = DELIVERY, **changes: Any) -> VaultWriter:
        arguments: dict[str, Any] = {
            "delivery_id": delivery_id,
            "dataset": "hes_apc",
            "contract_id": "hes_apc_2021",
            "generation": 1,
            "officers": self.officers,
            "signing_key": self.keyring.manifest_signing_key,
        }
        return VaultWriter(self.vault, **{**arguments, **changes})

    def write(self, *frames: pl.DataFrame, delivery_id: str = DELIVERY, **changes: Any) -> VaultSummary:
        with self.writer(delivery_id, **changes) as writer:
            for frame in frames:
                writer.add(frame)
            return writer.finish()

    def open(self, issuer: str = "RXX", columns: list[str] = LPI, folder: Path | None = None) -> pl.DataFrame:
        return open_with_officers(
            folder or self.vault / DELIVERY,
            self.identity("guardian"),
            self.identity("siro"),
            issuer,
            columns,
            self.signers,
        )

    def sign_again(self, folder: Path, change: Any) -> None:
        """What somebody with the pipeline's signing key could do: alter the manifest and sign it."""
        path = folder / "manifest.json"
        manifest = json.loads(path.read_bytes())["manifest"]
        change(manifest)
        signature = self.keyring.manifest_signing_key.sign(manifest, vault.MANIFEST_PURPOSE)
        path.write_bytes(canonical_json({"manifest": manifest, "signature": signature}))

    def accept(self, folder: Path, path: str) -> None:
        """Sign a manifest that vouches for whatever now lies at ``path``."""
        content = (folder / path).read_bytes()

        def change(manifest: dict[str, Any]) -> None:
            for entry in (*manifest["parts"], *manifest["shares"].values()):
                if entry["path"] == path:
                    entry["size"], entry["sha256"] = len(content), hashlib.sha256(content).hexdigest()

        self.sign_again(folder, change)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("workspace")
    officers = create_demo_officers(root, trained_on=date(2026, 11, 1))
    prepared = Workspace(root, Keyring.create(root / "keys", environment={}), officers)
    prepared.write(records({"RXX": 30, "RYY": 20}))
    return prepared


@pytest.fixture
def workspace(prepared: Workspace, tmp_path: Path) -> Workspace:
    """The prepared workspace with a vault of one delivery that a test may damage."""
    root = tmp_path / "workspace"
    shutil.copytree(prepared.root, root)
    return Workspace(root, prepared.keyring, prepared.officers)


# Two officers together -------------------------------------------------------------------------------------


def test_both_officers_together_open_the_named_items_of_the_named_hospital(workspace: Workspace) -> None:
    given = records({"RXX": 30, "RYY": 20}).filter(pl.col("issuer") == "RXX")
    assert workspace.open(columns=LPI).equals(given.select("record_key", *LPI))
    assert workspace.open(columns=["postcode", "nhs_number"]).equals(
        given.select("record_key", "postcode", "nhs_number")
    ), "nulls and the order of columns are kept"


@pytest.mark.parametrize(
    ("guardian", "siro"),
    [("deputy_guardian", "siro"), ("guardian", "deputy_siro"), ("deputy_guardian", "deputy_siro")],
)
def test_a_deputy_stands_in_for_the_officer(workspace: Workspace, guardian: str, siro: str) -> None:
    opened = open_with_officers(
        workspace.vault / DELIVERY,
        workspace.identity(guardian),
        workspace.identity(siro),
        "RYY",
        LPI,
        workspace.signers,
    )
    assert opened.height == 20


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("guardian", "guardian"),
        ("siro", "siro"),
        ("siro", "guardian"),
        ("guardian", "deputy_guardian"),
        ("deputy_siro", "siro"),
    ],
)
def test_no_other_pair_of_officers_opens_it(workspace: Workspace, first: str, second: str) -> None:
    with pytest.raises(CannotOpen):
        open_with_officers(
            workspace.vault / DELIVERY,
            workspace.identity(first),
            workspace.identity(second),
            "RXX",
            LPI,
            workspace.signers,
        )


def test_one_officer_s_shares_are_not_the_keys(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    for role in SHARE_ROLES:
        shares = read_shares(folder, role, workspace.identity(role), workspace.signers)
        part = (folder / "RXX/part-0001.parquet").read_bytes()
        manifest = vault.read_manifest(folder, workspace.signers)
        with pytest.raises(IntegrityError):
            encrypted_parquet.decode(
                part,
                ["record_key"],
                shares["RXX"]["footer"],
                shares["RXX"],
                vault.part_aad(manifest, "RXX", 1),
            )
        nothing: dict[str, dict[str, bytes]] = {}
        with pytest.raises(CannotOpen):
            open_with_shares(folder, shares, nothing, "RXX", LPI, workspace.signers)
        with pytest.raises(IntegrityError, match="do not give the key"):
            open_with_shares(folder, shares, shares, "RXX", LPI, workspace.signers)


def test_the_pipeline_s_own_keys_open_nothing_of_it(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    keyring = workspace.keyring
    identities = [
        *keyring.inbox_identities,
        *keyring.landing_recovery_identities,
        read_key_file(workspace.root / "keys/unlock.key", "unlock"),
    ]
    tried = 0
    for path in sorted(folder.glob("*.age")):
        for identity in identities:
            tried += 1
            with pytest.raises(CannotOpen):
                unseal(path.read_bytes(), identity)
    raw = [
        keyring.linkage_token_key,
        keyring.linkage_file_key,
        bytes.fromhex(str.__str__(keyring.lake_metadata_key)),
        bytes(keyring.manifest_signing_key.secret_bytes()),
        bytes(keyring.audit_signing_key.secret_bytes()),
    ]
    manifest = vault.read_manifest(folder, workspace.signers)
    content = (folder / "RXX/part-0001.parquet").read_bytes()
    for key in raw:
        tried += 1
        with pytest.raises(IntegrityError):
            encrypted_parquet.decode(
                content, LPI, key, dict.fromkeys(LPI, key), vault.part_aad(manifest, "RXX", 1)
            )
    assert tried == 11, "a key that the keyring gained is to be tried here too"
    assert len(keyring.describe()) == 8, "a key that the keyring gained is to be tried here too"


def test_the_module_that_writes_has_no_means_to_open() -> None:
    tree = ast.parse(Path(vault.__file__).read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }
    for means in ("decode", "unseal", "decrypting_reader", "read_parquet", "scan_parquet", "vault_opening"):
        assert means not in names | imported, f"infra/vault.py uses {means}"
    assert not {"join"} & imported, "infra/vault.py can join shares"


def test_the_writer_forgets_its_keys(workspace: Workspace) -> None:
    writer = workspace.writer(LATER_DELIVERY)
    writer.add(records({"RXX": 3}))
    writer.finish()
    assert not writer._keys
    assert not writer._waiting


# Only what is needed ---------------------------------------------------------------------------------------


def test_the_shares_for_one_item_open_that_item_and_no_other(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    first, second = (
        shares_for(read_shares(folder, role, workspace.identity(role), workspace.signers), "RXX", LPI)
        for role in SHARE_ROLES
    )
    assert set(first) == {"RXX"}
    assert set(first["RXX"]) == {"footer", "record_key", "local_patient_identifier"}
    assert open_with_shares(folder, first, second, "RXX", LPI, workspace.signers).height == 30
    for issuer, columns in (("RXX", ["nhs_number"]), ("RYY", LPI)):
        with pytest.raises(CannotOpen):
            open_with_shares(folder, first, second, issuer, columns, workspace.signers)
    keys = {name: join(share, second["RXX"][name]) for name, share in first["RXX"].items()}
    manifest = vault.read_manifest(folder, workspace.signers)
    content = (folder / "RXX/part-0001.parquet").read_bytes()
    with pytest.raises(IntegrityError):
        encrypted_parquet.decode(
            content,
            ["nhs_number"],
            keys["footer"],
            {"nhs_number": keys["local_patient_identifier"]},
            vault.part_aad(manifest, "RXX", 1),
        )


def test_every_key_of_a_delivery_is_another_one(workspace: Workspace) -> None:
    workspace.write(records({"RXX": 5, "RYY": 5}), delivery_id=LATER_DELIVERY)
    digests = [
        digest
        for delivery in (DELIVERY, LATER_DELIVERY)
        for keys in vault.read_manifest(workspace.vault / delivery, workspace.signers)["keys"].values()
        for digest in keys.values()
    ]
    assert len(digests) == 2 * 2 * (2 + len(ITEMS)) == len(set(digests))


@pytest.mark.parametrize(
    ("issuer", "columns"),
    [
        ("RZZ", LPI),
        ("../RXX", LPI),
        ("RXX", ["date_of_death"]),
        ("RXX", []),
        ("RXX", ["record_key"]),
        ("RXX", LPI * 2),
    ],
)
def test_what_the_delivery_does_not_have_cannot_be_asked_for(
    workspace: Workspace, issuer: str, columns: list[str]
) -> None:
    with pytest.raises(UsageError):
        workspace.open(issuer, columns)


# Damage: zero rows, and an error that says nothing of the content -------------------------------------------


def refused(workspace: Workspace, why: str, *kinds: type[WardwatchError], match: str | None = None) -> None:
    with pytest.raises(kinds or (IntegrityError, CannotOpen), match=match) as error:
        workspace.open()
    assert "CANARY" not in str(error.value), why
    assert "9990000" not in str(error.value), why


def test_a_changed_bit_in_any_region_of_any_file_is_refused(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    for name in ("manifest.json", "shares-guardian.age", "shares-siro.age", "RXX/part-0001.parquet"):
        path = folder / name
        whole = path.read_bytes()
        step = max(1, len(whole) // 60)
        for position in sorted({*range(0, len(whole), step), 3, 4, 8, len(whole) - 1, len(whole) - 8}):
            changed = bytearray(whole)
            changed[position] ^= 1
            path.write_bytes(changed)
            refused(workspace, f"bit changed at byte {position} of {name}")
        path.write_bytes(whole)
    assert workspace.open().height == 30, "and undamaged it opens again"


def test_a_file_cut_anywhere_is_refused(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    for name in ("manifest.json", "shares-guardian.age", "RXX/part-0001.parquet"):
        whole = (folder / name).read_bytes()
        for length in (0, 1, 4, len(whole) // 3, len(whole) - 8, len(whole) - 1):
            (folder / name).write_bytes(whole[:length])
            refused(workspace, f"{name} cut to {length} bytes")
        (folder / name).write_bytes(whole + b"\0")
        refused(workspace, f"{name} with a byte more")
        (folder / name).write_bytes(whole)


def test_files_missing_or_added_are_refused(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    for name in ("RXX/part-0001.parquet", "RYY/part-0001.parquet", "shares-siro.age", "manifest.json"):
        moved = (folder / name).rename(workspace.root / "moved")
        refused(workspace, f"{name} missing", IntegrityError)
        moved.rename(folder / name)
    for name in ("RXX/part-0002.parquet", "notes.txt"):
        shutil.copy(folder / "RXX/part-0001.parquet", folder / name)
        refused(workspace, f"{name} added", IntegrityError, match="exactly the files")
        (folder / name).unlink()
    assert workspace.open().height == 30


def test_a_part_behind_a_link_is_refused(workspace: Workspace) -> None:
    path = workspace.vault / DELIVERY / "RXX/part-0001.parquet"
    moved = path.rename(workspace.root / "moved")
    path.symlink_to(moved)
    refused(workspace, "a link", IntegrityError)


def test_a_manifest_that_was_edited_or_signed_by_another_is_refused(workspace: Workspace) -> None:
    path = workspace.vault / DELIVERY / "manifest.json"
    document = json.loads(path.read_bytes())
    original = path.read_bytes()
    for name, value in {"rows": 49, "generation": 2, "parts": [], "keys": {}, "extra": 1}.items():
        path.write_bytes(canonical_json({**document, "manifest": {**document["manifest"], name: value}}))
        refused(workspace, f"{name} edited", IntegrityError, match="does not fit")
    stranger = SigningKey.create().sign(document["manifest"], vault.MANIFEST_PURPOSE)
    path.write_bytes(canonical_json({**document, "signature": stranger}))
    refused(workspace, "a stranger's signature", IntegrityError, match="not accepted")
    other_purpose = workspace.keyring.manifest_signing_key.sign(document["manifest"], "receipt")
    path.write_bytes(canonical_json({**document, "signature": other_purpose}))
    refused(workspace, "another purpose", IntegrityError, match="does not fit")
    path.write_bytes(original.replace(b'"v":1', b'"v":1,"v":1', 1))
    refused(workspace, "a key twice", IntegrityError)
    for content in (b"[]", b"{}", b'{"manifest":[],"signature":{}}'):
        path.write_bytes(content)
        refused(workspace, "no manifest", IntegrityError)


def test_a_manifest_of_another_version_or_kind_is_refused_even_signed_by_us(workspace: Workspace) -> None:
    """Nobody gets an older or weaker form read by saying that it is one."""
    path = workspace.vault / DELIVERY / "manifest.json"
    document = json.loads(path.read_bytes())
    for name, value in {"v": 0, "kind": "receipt"}.items():
        changed = {**document["manifest"], name: value}
        signature = workspace.keyring.manifest_signing_key.sign(changed, vault.MANIFEST_PURPOSE)
        path.write_bytes(canonical_json({"manifest": changed, "signature": signature}))
        refused(workspace, f"{name} changed", IntegrityError, match="of another version")


def test_the_folder_of_another_delivery_is_refused_even_whole(workspace: Workspace) -> None:
    workspace.write(records({"RXX": 5}), delivery_id=LATER_DELIVERY)
    shutil.rmtree(workspace.vault / DELIVERY)
    shutil.copytree(workspace.vault / LATER_DELIVERY, workspace.vault / DELIVERY)
    refused(workspace, "another delivery's folder", IntegrityError, match="another delivery")


def joined_keys(workspace: Workspace, folder: Path, issuer: str) -> dict[str, bytes]:
    first, second = (
        read_shares(folder, role, workspace.identity(role), workspace.signers)[issuer] for role in SHARE_ROLES
    )
    return {name: join(share, second[name]) for name, share in first.items()}


def test_an_older_part_under_the_same_keys_is_refused(workspace: Workspace) -> None:
    # The worst case: same keys, same place. Parquet's own checks accept it; the signed digest does not.
    folder = workspace.vault / DELIVERY
    keys = joined_keys(workspace, folder, "RXX")
    manifest = vault.read_manifest(folder, workspace.signers)
    columns = ["record_key", *ITEMS]
    older = encrypted_parquet.encode(
        records({"RXX": 30}).select(columns).reverse(),
        keys["footer"],
        {name: keys[name] for name in columns},
        vault.part_aad(manifest, "RXX", 1),
    )
    (folder / "RXX/part-0001.parquet").write_bytes(older)
    refused(workspace, "an older part", IntegrityError, match="not the file that was written")


def test_a_part_in_another_s_place_is_refused_even_under_a_signed_manifest(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    keys = joined_keys(workspace, folder, "RXX")
    manifest = vault.read_manifest(folder, workspace.signers)
    columns = ["record_key", *ITEMS]
    right = vault.part_aad(manifest, "RXX", 1)
    places = {
        "another hospital": vault.part_aad(manifest, "RYY", 1),
        "another part": vault.part_aad(manifest, "RXX", 2),
        "another delivery": vault.part_aad({**manifest, "delivery_id": LATER_DELIVERY}, "RXX", 1),
        "another dataset": vault.part_aad({**manifest, "dataset": "hes_op"}, "RXX", 1),
        "another contract": vault.part_aad({**manifest, "contract": "hes_apc_1997"}, "RXX", 1),
        "another generation": vault.part_aad({**manifest, "generation": 2}, "RXX", 1),
    }
    for why, place in {**places, "right": right}.items():
        content = encrypted_parquet.encode(
            records({"RXX": 30}).select(columns),
            keys["footer"],
            {name: keys[name] for name in columns},
            place,
        )
        (folder / "RXX/part-0001.parquet").write_bytes(content)
        workspace.accept(folder, "RXX/part-0001.parquet")
        if why == "right":
            assert workspace.open().height == 30, "the test's own way of writing is sound"
        else:
            refused(workspace, why, IntegrityError, match="another place")


def test_a_part_exchanged_with_another_hospital_s_is_refused_even_under_a_signed_manifest(
    workspace: Workspace,
) -> None:
    folder = workspace.vault / DELIVERY
    shutil.copy(folder / "RYY/part-0001.parquet", folder / "RXX/part-0001.parquet")
    workspace.accept(folder, "RXX/part-0001.parquet")
    refused(workspace, "another hospital's part", IntegrityError)


def test_fewer_rows_than_were_written_are_refused_even_under_a_signed_manifest(workspace: Workspace) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["parts"][0]["rows"] += 1

    workspace.sign_again(workspace.vault / DELIVERY, change)
    refused(workspace, "another number of rows", IntegrityError, match="number of rows")


def test_another_delivery_s_shares_are_refused_even_under_a_signed_manifest(
    workspace: Workspace,
) -> None:
    workspace.write(records({"RXX": 5}), delivery_id=LATER_DELIVERY)
    folder = workspace.vault / DELIVERY
    for role in ("guardian", "siro"):
        name = f"shares-{role}.age"
        shutil.copy(workspace.vault / LATER_DELIVERY / name, folder / name)
        workspace.accept(folder, name)
    refused(workspace, "another delivery's shares", IntegrityError, match="another delivery or office")


@pytest.mark.parametrize("left_out", ["record_key", "nhs_number", "local_patient_identifier"])
def test_a_part_with_a_column_in_plaintext_is_refused_whichever_column_is_asked_for(
    workspace: Workspace, left_out: str
) -> None:
    folder = workspace.vault / DELIVERY
    keys = joined_keys(workspace, folder, "RXX")
    columns = ["record_key", *ITEMS]
    path = folder / "RXX/part-0001.parquet"
    manifest = vault.read_manifest(folder, workspace.signers)
    records({"RXX": 30}).select(columns).write_parquet(
        path,
        encryption=pl.ParquetEncryptionProperties(
            footer_key=bytes(keys["footer"]),
            column_keys={name: bytes(keys[name]) for name in columns if name != left_out},
            aad_prefix=vault.part_aad(manifest, "RXX", 1),
        ),
    )
    workspace.accept(folder, "RXX/part-0001.parquet")
    refused(workspace, "a column in plaintext", IntegrityError, match="not encrypted")
    path.chmod(0o600)
    assert [finding.problem for finding in verify(workspace.vault, workspace.signers)] == [
        "RXX/part-0001.parquet holds a part that is not encrypted"
    ], "verify sees it without any key"


def test_a_part_whose_columns_share_the_footer_s_key_is_refused(workspace: Workspace) -> None:
    # The footer's key is released with every request: a column under it would be released too.
    folder = workspace.vault / DELIVERY
    keys = joined_keys(workspace, folder, "RXX")
    manifest = vault.read_manifest(folder, workspace.signers)
    records({"RXX": 30}).select("record_key", *ITEMS).write_parquet(
        folder / "RXX/part-0001.parquet",
        encryption=pl.ParquetEncryptionProperties(
            footer_key=bytes(keys["footer"]), aad_prefix=vault.part_aad(manifest, "RXX", 1)
        ),
    )
    workspace.accept(folder, "RXX/part-0001.parquet")
    refused(workspace, "a column under the footer key", IntegrityError, match="without a key of its own")


def test_a_plain_parquet_file_is_refused(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    records({"RXX": 30}).select("record_key", *ITEMS).write_parquet(folder / "RXX/part-0001.parquet")
    workspace.accept(folder, "RXX/part-0001.parquet")
    refused(workspace, "plain Parquet", IntegrityError, match="not encrypted")


def test_the_writer_of_encrypted_tables_refuses_to_leave_a_column_without_a_key() -> None:
    frame = pl.DataFrame({"a": ["1"], "b": ["2"]})
    key = bytes(32)
    for keys in ({}, {"a": key}, {"a": key, "b": key, "c": key}, {"a": key, "b": b"short"}):
        with pytest.raises(UsageError):
            encrypted_parquet.encode(frame, key, keys, b"place")
    with pytest.raises(UsageError):
        encrypted_parquet.encode(frame, key, {"a": key, "b": key}, b"")


# Writing ---------------------------------------------------------------------------------------------------


def every_byte(folder: Path) -> bytes:
    return b"".join(
        path.relative_to(folder).as_posix().encode() + path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_no_identifier_stands_in_clear_in_any_file_or_file_name(workspace: Workspace) -> None:
    content = every_byte(workspace.vault)
    given = records({"RXX": 30, "RYY": 20})
    for column in ("record_key", *ITEMS):
        for value in given[column].drop_nulls():
            for spelling in (
                value.encode(),
                value.encode("utf-16-le"),
                value[::-1].encode(),
                value.encode().hex().encode(),
            ):
                if len(spelling) > 8:
                    assert spelling not in content, f"a value of {column} lies in clear"


def test_every_file_is_private_whatever_the_umask(workspace: Workspace) -> None:
    before = os.umask(0)
    try:
        summary = workspace.write(records({"RXX": 5, None: 2}), delivery_id=LATER_DELIVERY)
    finally:
        os.umask(before)
    made = [summary.folder, *summary.folder.rglob("*")]
    assert len(made) == 1 + 3 + 2 + 2
    for path in made:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path.name


def test_chunks_and_a_small_buffer_change_the_parts_and_not_the_content(workspace: Workspace) -> None:
    frames = [records({"RXX": 40, "RYY": 5, "RZZ": 1}, start=100 * number) for number in range(10)]
    summary = workspace.write(*frames, delivery_id=LATER_DELIVERY, buffer_bytes=20_000)
    manifest = vault.read_manifest(summary.folder, workspace.signers)
    issuers = [part["issuer"] for part in manifest["parts"]]
    assert issuers.count("RXX") > 1, "the largest issuer is written before the end"
    assert issuers.count("RZZ") == 1, "a small one waits for its rows to come together"
    assert (summary.rows, summary.issuers, summary.parts) == (460, 3, len(manifest["parts"]))
    given = pl.concat(frames)
    for issuer in ("RXX", "RYY", "RZZ"):
        opened = workspace.open(issuer, ITEMS, summary.folder)
        expected = given.filter(pl.col("issuer") == issuer).select("record_key", *ITEMS)
        assert opened.equals(expected), issuer
    assert verify(workspace.vault, workspace.signers) == []


@pytest.mark.parametrize(
    ("issuer", "folder"),
    [
        ("RXX", "RXX"),
        (" rxx ", "RXX"),
        ("RXX01", "RXX01"),
        ("A81001", "A81001"),
        (None, "_missing"),
        ("", "_missing"),
        ("   ", "_missing"),
        ("9990000018", "_unrecognised"),
        ("19310101", "_unrecognised"),
        ("../../x", "_unrecognised"),
        ("RX/X", "_unrecognised"),
        ("RX", "_unrecognised"),
        ("R\u0661\u0662X", "_unrecognised"),
        ("RXX\n", "RXX"),
        ("R\0X", "_unrecognised"),
    ],
)
def test_only_an_organisation_code_becomes_a_folder_name(issuer: str | None, folder: str) -> None:
    assert issuer_folder(issuer) == folder


def test_records_without_a_usable_issuer_are_kept_and_their_value_is_not(workspace: Workspace) -> None:
    given = records({"RXX": 2, " rxx": 1, None: 2, "9990000018": 1, "CANARY/..": 1})
    summary = workspace.write(given, delivery_id=LATER_DELIVERY)
    assert {path.name for path in summary.folder.iterdir() if path.is_dir()} == {
        "RXX",
        "_missing",
        "_unrecognised",
    }
    assert summary.rows == 7
    assert workspace.open("RXX", LPI, summary.folder).height == 3
    content = every_byte(summary.folder)
    assert b"9990000018" not in content
    assert b"CANARY" not in content


def test_items_may_come_under_the_names_of_the_contract_s_fields(workspace: Workspace) -> None:
    given = records({"RXX": 2}).select("record_key", "issuer", LOPATID="local_patient_identifier")
    items = {"LOPATID": "local_patient_identifier"}
    summary = workspace.write(given, delivery_id=LATER_DELIVERY, items=items)
    assert summary.items == ("local_patient_identifier",)
    opened = workspace.open("RXX", ["LOPATID"], summary.folder)
    assert opened["LOPATID"].to_list() == ["CANARY000000", "CANARY000001"]


@pytest.mark.parametrize(
    "frame",
    [
        records({"RXX": 1}).drop("issuer"),
        records({"RXX": 1}).select("issuer", "record_key", *ITEMS),
        records({"RXX": 1}).with_columns(diagnosis=pl.lit("A00")),
        records({"RXX": 1}).rename({"postcode": "POSTCODE"}),
        records({"RXX": 1}).rename({"postcode": "footer"}),
        records({"RXX": 1}).with_columns(pl.lit(date(1931, 1, 1)).alias("date_of_birth")),
    ],
    ids=["no issuer", "other order", "a diagnosis", "unknown name", "reserved name", "a typed date"],
)
def test_nothing_but_the_seven_items_as_text_comes_in(workspace: Workspace, frame: pl.DataFrame) -> None:
    with pytest.raises(UsageError) as error:
        workspace.write(frame, delivery_id=LATER_DELIVERY)
    assert "CANARY" not in str(error.value)
    assert not (workspace.vault / LATER_DELIVERY).exists()


def test_every_chunk_has_the_same_columns(workspace: Workspace) -> None:
    with pytest.raises(UsageError):
        workspace.write(records({"RXX": 1}), records({"RXX": 1}).drop("postcode"), delivery_id=LATER_DELIVERY)


@pytest.mark.parametrize("frames", [[], [records({"RXX": 3}).select("record_key", "issuer")]])
def test_a_delivery_without_identifiable_items_has_a_manifest_that_says_so(
    workspace: Workspace, frames: list[pl.DataFrame]
) -> None:
    summary = workspace.write(*frames, delivery_id=LATER_DELIVERY)
    manifest = vault.read_manifest(summary.folder, workspace.signers)
    assert (manifest["parts"], manifest["keys"], manifest["shares"], manifest["rows"]) == ([], {}, {}, 0)
    assert [path.name for path in summary.folder.iterdir()] == ["manifest.json"]
    assert verify(workspace.vault, workspace.signers) == []
    with pytest.raises(IntegrityError, match="no identifiable item"):
        workspace.open(folder=summary.folder)


# All or nothing --------------------------------------------------------------------------------------------


def test_the_delivery_appears_by_one_rename_between_the_two_commit_points(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(name: str) -> None:
        seen.append((name, sorted(path.name for path in workspace.vault.iterdir())))

    monkeypatch.setattr(commit_points, "reached", look)
    workspace.write(records({"RXX": 2}), delivery_id=LATER_DELIVERY)
    assert seen == [
        ("vault.write.before", [f".staging-{LATER_DELIVERY}", DELIVERY]),
        ("vault.write.after", [DELIVERY, LATER_DELIVERY]),
    ]


def test_an_abandoned_or_failed_write_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with workspace.writer(LATER_DELIVERY) as writer:
        writer.add(records({"RXX": 2}))
    assert sorted(path.name for path in workspace.vault.iterdir()) == [DELIVERY], "left without finish"

    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device", "/a/path")

    for broken in ("fdopen", "rename", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, full)
            with pytest.raises(StorageFull) as error:
                workspace.write(records({"RXX": 2}), delivery_id=LATER_DELIVERY)
        assert "/a/path" not in str(error.value)
        assert sorted(path.name for path in workspace.vault.iterdir()) == [DELIVERY], broken


def test_what_a_killed_run_left_does_not_reach_the_next_one(workspace: Workspace) -> None:
    left = workspace.vault / f".staging-{LATER_DELIVERY}" / "RXX"
    left.mkdir(parents=True)
    (left / "part-0001.parquet").write_bytes(b"half")
    (left / "part-0009.parquet").write_bytes(b"half")
    assert [finding.delivery for finding in verify(workspace.vault, workspace.signers)] == [left.parent.name]
    summary = workspace.write(records({"RXX": 2}), delivery_id=LATER_DELIVERY)
    assert workspace.open("RXX", LPI, summary.folder).height == 2
    assert verify(workspace.vault, workspace.signers) == []


def test_a_delivery_s_vault_is_never_replaced(workspace: Workspace) -> None:
    before = every_byte(workspace.vault)
    with pytest.raises(WorkspaceError):
        workspace.writer()
    assert every_byte(workspace.vault) == before
    summary = workspace.write(records({"RXX": 2}), generation=2)
    assert summary.folder.name == folder_name(DELIVERY, 2) == f"{DELIVERY}.g2"
    assert workspace.open().height == 30, "the first generation is untouched"
    assert workspace.open(folder=summary.folder).height == 2


@pytest.mark.parametrize("delivery_id", ["", "../x", "A", ".staging-x", "a/b", "a b"])
def test_a_delivery_id_that_is_no_folder_name_is_refused(workspace: Workspace, delivery_id: str) -> None:
    with pytest.raises(UsageError):
        workspace.writer(delivery_id)


def test_sweeping_keeps_the_committed_and_removes_everything_else(workspace: Workspace) -> None:
    workspace.write(records({"RXX": 2}), delivery_id=LATER_DELIVERY)
    (workspace.vault / ".staging-x").mkdir()
    (workspace.vault / ".staging-removed").mkdir()
    assert sorted(sweep(workspace.vault, {DELIVERY})) == [".staging-removed", ".staging-x", LATER_DELIVERY]
    assert [path.name for path in workspace.vault.iterdir()] == [DELIVERY]
    assert sweep(workspace.vault, {DELIVERY}) == []
    assert workspace.open().height == 30
    assert sweep(workspace.vault / "nowhere", set()) == []


# What can be said without a key ----------------------------------------------------------------------------


def test_status_counts_and_names_and_says_no_value(workspace: Workspace) -> None:
    workspace.write(records({"RXX": 2}), delivery_id=LATER_DELIVERY)
    rows = status(workspace.vault, workspace.signers)
    assert [row["delivery_id"] for row in rows] == [DELIVERY, LATER_DELIVERY]
    first = rows[0]
    assert (first["rows"], first["parts"], first["issuers"], first["items"]) == (50, 2, 2, sorted(ITEMS))
    assert first["bytes"] > 0
    assert "CANARY" not in str(rows)
    assert status(workspace.root / "nowhere", workspace.signers) == []


def test_verify_names_every_kind_of_damage(workspace: Workspace) -> None:
    folder = workspace.vault / DELIVERY
    assert verify(workspace.vault, workspace.signers) == []
    (folder / "RXX/part-0001.parquet").write_bytes(b"changed")
    (folder / "RYY/part-0001.parquet").unlink()
    (folder / "extra").mkdir(mode=0o700)
    (folder / "extra" / "part-0002.parquet").symlink_to(folder / "manifest.json")
    (folder / "shares-siro.age").chmod(0o644)
    assert {finding.problem for finding in verify(workspace.vault, workspace.signers)} == {
        f"{DELIVERY}/RXX/part-0001.parquet is not the file that was written",
        f"{DELIVERY}/RYY/part-0001.parquet is missing or cannot be read",
        "extra is not in the manifest",
        "extra/part-0002.parquet is not in the manifest",
        "extra/part-0002.parquet is neither a file nor a folder",
        "shares-siro.age is open to the group or to others",
    }
    (folder / "manifest.json").write_bytes(b"{}")
    assert any("manifest" in finding.problem for finding in verify(workspace.vault, workspace.signers))
    (workspace.vault / "stray").write_text("x")
    assert any(finding.delivery == "stray" for finding in verify(workspace.vault, workspace.signers))


# The format ------------------------------------------------------------------------------------------------


def test_the_golden_vault_still_opens() -> None:
    """Polars calls its encryption unstable; what a hospital may have to review must stay readable."""
    expected = pl.DataFrame(json.loads((GOLDEN / "expected.json").read_text()))
    identities = [
        SecretText((GOLDEN / f"{role}.age-key").read_text().splitlines()[1]) for role in ("guardian", "siro")
    ]
    signers = json.loads((GOLDEN / "signers.json").read_text())
    for issuer, rows in (("RXX", 4), ("RYY", 2)):
        opened = open_with_officers(GOLDEN / DELIVERY, identities[0], identities[1], issuer, ITEMS, signers)
        assert opened.height == rows
        assert opened.equals(expected.filter(pl.col("issuer") == issuer).select("record_key", *ITEMS))
