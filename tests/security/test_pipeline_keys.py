"""What the pipeline's own keys open, and what they never open: the promise behind the vault.

The keyring holds everything that an intruder on the pipeline's machine could steal. Each of its secrets is tried on
each share and each part of a vault that a real night wrote. Modes, arguments, environment and settings are looked at
too: a key that others can read is no longer a key.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyrage
import pytest

from infra import encrypted_parquet, linkage
from infra.keyring import PublicKeys, read_key_file
from infra.landing import CONTENT, GUARDIAN_SHARE, PIPELINE_KEY, SIRO_SHARE, Landing
from infra.landing_share import open_share
from infra.officers import IDENTITY_FILE, OFFICE, SHARE_ROLES, Officers, ShareRole, load_identity
from infra.sealing import SecretText, decrypting_reader, public_of, unseal
from infra.shares import join
from infra.vault import part_aad, read_manifest, share_file
from infra.vault_opening import open_with_shares, read_shares, shares_for
from infra.workspace import Workspace
from schemas.errors import CannotOpen, IntegrityError, KeyUnavailable, WardwatchError
from tests.support.command_line import wardwatch
from tests.support.processes import PROJECT, child_environment
from tests.support.workspaces import Clock, Extracts, copy_workspace, drop, keyring, night, tree


def vaults(workspace: Workspace) -> list[tuple[Path, dict[str, Any]]]:
    """Every vault folder that holds something, with its verified manifest."""
    signers = PublicKeys.load(workspace.zone("keys")).signers()
    folders = sorted(workspace.zone("vault").iterdir())
    found = [(folder, dict(read_manifest(folder, signers))) for folder in folders]
    return [(folder, manifest) for folder, manifest in found if manifest["parts"]]


def age_identities(workspace: Workspace) -> dict[str, str]:
    """Name -> every private age key that the pipeline can get at: the keyring's, the one that unlocks it, and the
    keys of the landed deliveries."""
    ring = keyring(workspace)
    found = {
        f"{name} {number}": str.__str__(version.secret)
        for name, versions in ring._keys.items()
        for number, version in enumerate(versions)
        if version.kind == "age"
    }
    found["unlock"] = str.__str__(read_key_file(workspace.zone("keys") / "unlock.key", "it"))
    for folder in sorted(workspace.zone("landing").iterdir()):
        if (folder / PIPELINE_KEY).exists():
            opened = unseal((folder / PIPELINE_KEY).read_bytes(), ring.landing_recovery_identities)
            found[f"landing key of {folder.name}"] = opened.decode()
    return found


def symmetric_keys(workspace: Workspace) -> dict[str, bytes]:
    """Name -> everything of 256 bits that the pipeline holds, whatever it is meant for."""
    ring = keyring(workspace)
    found = {
        name: bytes.fromhex(str.__str__(versions[-1].secret))
        for name, versions in ring._keys.items()
        if versions[-1].kind in ("ed25519", "symmetric")
    }
    assert set(found) == {
        "manifest_signing",
        "audit_signing",
        "lake_metadata",
        "linkage_token",
        "linkage_file",
    }
    for path in sorted(workspace.zone("linkage").glob("*.parquet")):
        footer, columns, _ = linkage._keys(ring.linkage_file_key, path.stem, linkage.DEATHS)
        found |= {f"linkage footer of {path.stem}": bytes(footer)}
        found |= {f"linkage {name} of {path.stem}": bytes(key) for name, key in columns.items()}
    assert all(len(key) == encrypted_parquet.KEY_BYTES for key in found.values())
    return found


def officer(workspace: Workspace, share: ShareRole) -> SecretText:
    """The private key of the holder of ``share``."""
    return load_identity(workspace.zone("officers") / OFFICE[share][0] / IDENTITY_FILE)


def opens(sealed: bytes, identity: str) -> bool:
    try:
        pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(str.__str__(identity))])
    except pyrage.DecryptError:
        return False
    return True


# The vault ----------------------------------------------------------------------------------------------


def test_none_of_the_pipeline_s_keys_opens_a_share(finished_template: Workspace) -> None:
    identities = age_identities(finished_template)
    assert len(identities) >= 3 + 7, "the keyring's, the unlock key, and one for each landed delivery"
    shares = [
        folder / share_file(role) for folder, _ in vaults(finished_template) for role in ("guardian", "siro")
    ]
    assert len(shares) >= 10
    opened = [
        f"{name} opened {share.parent.name}/{share.name}"
        for share in shares
        for name, identity in identities.items()
        if opens(share.read_bytes(), identity)
    ]
    assert opened == []
    guardian = officer(finished_template, "guardian")
    assert opens(shares[0].read_bytes(), guardian), (
        "whose it is, opens it: the others were tried in the right way"
    )


def test_none_of_the_pipeline_s_keys_opens_a_part(finished_template: Workspace) -> None:
    keys = symmetric_keys(finished_template)
    opened, tried = [], 0
    for folder, manifest in vaults(finished_template):
        for part in manifest["parts"]:
            content = (folder / part["path"]).read_bytes()
            aad = part_aad(manifest, part["issuer"], part["part"])
            for column in sorted({"record_key", *manifest["columns"]}):
                for name, key in keys.items():
                    tried += 1
                    try:
                        encrypted_parquet.decode(content, [column], key, {column: key}, aad)
                    except WardwatchError:
                        continue
                    opened.append(f"{name} opened {column} of {folder.name}/{part['path']}")
    assert opened == []
    assert tried > 500, "there was too little to try"


def test_a_part_says_nothing_to_who_has_no_key(finished_template: Workspace) -> None:
    for folder, manifest in vaults(finished_template):
        for part in manifest["parts"]:
            assert encrypted_parquet.wholly_encrypted((folder / part["path"]).read_bytes()), part["path"]
            with pytest.raises(Exception):  # noqa: B017, PT011  (whichever way the library fails)
                pl.read_parquet(folder / part["path"])


@pytest.mark.parametrize(("role", "other"), [("guardian", "siro"), ("siro", "guardian")])
def test_one_officer_alone_opens_nothing(
    finished_template: Workspace, role: ShareRole, other: ShareRole
) -> None:
    """Neither the other office's shares, nor a part with the own shares in the place of keys or of both halves."""
    signers = PublicKeys.load(finished_template.zone("keys")).signers()
    identity = officer(finished_template, role)
    for folder, manifest in vaults(finished_template):
        with pytest.raises(CannotOpen):
            read_shares(folder, other, identity, signers)
        own = read_shares(folder, role, identity, signers)
        part = manifest["parts"][0]
        column = next(name for name in manifest["columns"] if name != "record_key")
        needed = shares_for(own, part["issuer"], [column])
        with pytest.raises(IntegrityError):
            open_with_shares(folder, needed, needed, part["issuer"], [column], signers)
        with pytest.raises(CannotOpen):
            open_with_shares(folder, needed, {}, part["issuer"], [column], signers)
        keys = needed[part["issuer"]]
        with pytest.raises(WardwatchError):
            encrypted_parquet.decode(
                (folder / part["path"]).read_bytes(),
                [column],
                keys["footer"],
                {column: keys[column]},
                part_aad(manifest, part["issuer"], part["part"]),
            )


def test_both_officers_open_the_item_that_they_name_and_of_the_hospital_that_they_name(
    finished_template: Workspace,
) -> None:
    signers = PublicKeys.load(finished_template.zone("keys")).signers()
    folder, manifest = next(
        entry for entry in vaults(finished_template) if entry[0].name.startswith("hes_apc-2022")
    )
    issuer = manifest["parts"][0]["issuer"]
    column = next(name for name in manifest["columns"] if name == "LOPATID")
    guardian = shares_for(
        read_shares(folder, "guardian", officer(finished_template, "guardian"), signers), issuer, [column]
    )
    siro = shares_for(
        read_shares(folder, "siro", officer(finished_template, "siro"), signers), issuer, [column]
    )
    opened = open_with_shares(folder, guardian, siro, issuer, [column], signers)
    written = sum(part["rows"] for part in manifest["parts"] if part["issuer"] == issuer)
    assert (opened.height, opened.columns) == (written, ["record_key", "LOPATID"])
    assert opened["LOPATID"].str.starts_with("WWLP").all()
    for refused in ("NEWNHSNO", "DOB"):
        with pytest.raises(CannotOpen):
            open_with_shares(folder, guardian, siro, issuer, [refused], signers)
    another = next(part["issuer"] for part in manifest["parts"] if part["issuer"] != issuer)
    with pytest.raises(CannotOpen):
        open_with_shares(folder, guardian, siro, another, [column], signers)


# The landing window -------------------------------------------------------------------------------------


def landing(workspace: Workspace) -> Landing:
    return Landing(
        workspace.zone("landing"), keyring(workspace), Officers.load(workspace.zone("keys")), Clock()
    )


def test_after_the_landing_window_only_the_two_officers_together_read_a_delivery(
    finished_workspace: Workspace, plain_extracts: Extracts
) -> None:
    workspace = finished_workspace
    delivery = next(r.delivery_id for r in landing(workspace).held() if r.delivery_id.startswith("hes_op-"))
    with landing(workspace).open_plaintext(delivery) as stream:
        before = stream.read()
    assert before == plain_extracts.one("HES_OP_202099").read_bytes()

    later = Clock().later(days=workspace.settings.landing_readable_days + 1)
    ran = wardwatch(workspace.root, "nightly", clock=later)

    assert ran.exit_code == 0, ran.err
    assert ran.lines_with(f"{delivery}: landing window closed, only the two officers can open it now")
    folder = workspace.zone("landing") / delivery
    assert not (folder / PIPELINE_KEY).exists()
    with pytest.raises(KeyUnavailable), landing(workspace).open_plaintext(delivery):
        pass
    sealed = (folder / CONTENT).read_bytes()
    everybody = [
        *age_identities(workspace).values(),
        officer(workspace, "guardian"),
        officer(workspace, "siro"),
    ]
    assert not [identity for identity in everybody if opens(sealed, identity)]

    recipient = landing(workspace).receipt(delivery).landing_recipient
    shares = [
        open_share((folder / name).read_bytes(), officer(workspace, role), delivery, role, recipient)
        for name, role in zip((GUARDIAN_SHARE, SIRO_SHARE), SHARE_ROLES, strict=True)
    ]
    for share in shares:
        with pytest.raises(KeyUnavailable):
            public_of(SecretText(bytes(share).decode("latin-1")))
    key = SecretText(join(*shares).decode())
    with (folder / CONTENT).open("rb") as source, decrypting_reader(source, [key]) as reader:
        assert reader.read() == before


# Modes --------------------------------------------------------------------------------------------------


@pytest.fixture
def anything_goes() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.usefixtures("anything_goes")
def test_every_file_of_a_night_is_for_its_owner_only_whatever_the_umask(
    empty_template: Workspace, extracts: Extracts, tmp_path: Path
) -> None:
    workspace = copy_workspace(empty_template, tmp_path / "workspace")
    drop(workspace, extracts.named("HES_OP_202099", "HES_OP_202206", "CIVIL_DEATHS"))
    (workspace.zone("inbox") / "bad_HES_OP_202299.txt").write_bytes(b"A,B\n1,2\n")
    os.utime(workspace.zone("inbox") / "bad_HES_OP_202299.txt", (1e9, 1e9))
    outcome = night(workspace)
    assert len(outcome.ingested) == 3
    assert os.umask(0) == 0, "the umask is put back"

    wrong = []
    (refused,) = workspace.zone("inbox").iterdir()  # the sender's own file, with the sender's mode
    for path in {workspace.root, *workspace.root.rglob("*")} - {refused}:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            assert path == workspace.zone("published") / "current", "the pointer is the only link"
            continue
        if stat.S_IMODE(status.st_mode) != (0o700 if stat.S_ISDIR(status.st_mode) else 0o600):
            wrong.append(f"{stat.filemode(status.st_mode)} {path.relative_to(workspace.root)}")
    assert wrong == []


@pytest.mark.parametrize("name", ["unlock.key", "pipeline.keyring.age"])
@pytest.mark.parametrize("command", [("nightly",), ("status",), ("land", "settings.yaml"), ("keys", "list")])
def test_nothing_starts_with_a_key_file_that_others_can_read(
    finished_workspace: Workspace, name: str, command: tuple[str, ...]
) -> None:
    root = finished_workspace.root
    (root / "keys" / name).chmod(0o644)
    before = {path: path.read_bytes() for path in tree(root)}
    at = [str(root / part) if part.endswith(".yaml") else part for part in command]

    ran = wardwatch(root, *at)

    assert ran.exit_code == 34, ran.said
    assert ran.error.startswith("wardwatch: [keys.unavailable] ")
    assert f"{name}) is open to the group or to others" in ran.error
    after = {path: path.read_bytes() for path in tree(root)}
    assert {path for path in after if path not in before} <= {root / ".writer.lock"}
    assert before.items() <= after.items(), "nothing was done"


# Where keys must not be ---------------------------------------------------------------------------------

# A night as the command line runs it, without the orchestrator, that looks at its own process at every step.
LOOK = """
import json, sys
from pathlib import Path
from flows import nightly
from flows.orchestrator import harden
root = sys.argv[1]
harden(root)
seen = []
def step(name, action):
    result = action()
    for place in ("cmdline", "environ"):
        seen.append(Path("/proc/self", place).read_bytes().hex())
    import os
    seen.append(json.dumps(dict(os.environ)).encode().hex())
    return result
nightly.run_night(Path(root), step=step)
print("\\nSEEN" + json.dumps(seen))
"""


def test_no_argument_no_environment_and_no_setting_holds_a_key(
    finished_workspace: Workspace, extracts: Extracts, shared_folder: Path
) -> None:
    workspace = finished_workspace
    drop(workspace, extracts.named("HES_OP_202206"))
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(workspace.root)],
        cwd=PROJECT,
        env=child_environment(shared_folder),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, seen = done.stdout.rsplit("\nSEEN", 1)
    places = [bytes.fromhex(text) for text in json.loads(seen)]
    assert len(places) >= 3 * 4, "every step was looked at"
    assert any(str(workspace.root).encode() in place for place in places), (
        "it is this process that was looked at"
    )
    places += [said.encode(), done.stderr.encode(), (workspace.root / "settings.yaml").read_bytes()]
    places.append((workspace.zone("keys") / "public.json").read_bytes())
    places += [path.read_bytes() for path in tree(workspace.zone("keys") / "register")]

    secrets = {name: text.encode() for name, text in age_identities(workspace).items()}
    for name, key in symmetric_keys(workspace).items():
        secrets[name], secrets[f"{name} as bytes"] = key.hex().encode(), key
    found = [name for name, secret in secrets.items() for place in places if secret in place]
    found += [name for name, secret in secrets.items() for place in places if secret.upper() in place.upper()]
    assert found == []
    for zone in ("published", "audit", "runs", "incidents", "lake", "landing", "vault", "linkage", "tmp"):
        for path in tree(workspace.zone(zone)):
            content = path.read_bytes()
            assert not [name for name, secret in secrets.items() if secret in content], path.name
