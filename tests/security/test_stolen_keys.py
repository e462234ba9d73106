"""What each stolen key opens, tried on every sealed file of a workspace after a night.

The table below is the one of ``infra/threat-model.md``. A person's key is what lies in that person's folder; the
pipeline's is the whole keyring with whatever it opens in turn.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from infra.landing import CONTENT, GUARDIAN_SHARE, PIPELINE_KEY, SIRO_SHARE, Landing
from infra.officers import IDENTITY_FILE, Officers, load_identity
from infra.vault import share_file
from infra.workspace import Workspace
from tests.security.test_pipeline_keys import age_identities, opens, vaults
from tests.support.workspaces import Clock, copy_workspace, keyring, tree

SEALED = b"age-encryption.org/"
ARMORED = b"-----BEGIN AGE"
SHARES = {
    "caldicott_guardian": {share_file("guardian"), GUARDIAN_SHARE},
    "deputy_caldicott_guardian": {share_file("guardian"), GUARDIAN_SHARE},
    "siro": {share_file("siro"), SIRO_SHARE},
    "deputy_siro": {share_file("siro"), SIRO_SHARE},
}


def sealed_files(workspace: Workspace) -> list[Path]:
    return [
        path
        for path in tree(workspace.root)
        if path.is_file() and path.read_bytes()[:32].startswith((SEALED, ARMORED))
    ]


def opened_by(identity: str, workspace: Workspace) -> set[str]:
    """Names of the sealed files that one age key opens, each name once."""
    return {path.name for path in sealed_files(workspace) if opens(path.read_bytes(), identity)}


@pytest.fixture(scope="module")
def after_the_window(finished_template: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The workspace when the landing windows of all its deliveries are over."""
    workspace = copy_workspace(finished_template, tmp_path_factory.mktemp("closed") / "workspace")
    clock = Clock()
    officers = Officers.load(workspace.zone("keys"))
    landing = Landing(workspace.zone("landing"), keyring(workspace), officers, clock)
    later = clock().date() + timedelta(days=workspace.settings.landing_readable_days + 1)
    assert landing.close_windows(later, workspace.settings.landing_readable_days)
    return workspace


def test_a_person_s_stolen_key_opens_that_person_s_shares_and_nothing_else(
    finished_template: Workspace,
) -> None:
    folders = sorted(path for path in finished_template.zone("officers").iterdir() if path.is_dir())
    assert {folder.name for folder in folders} > set(SHARES)
    for folder in folders:
        path = folder / IDENTITY_FILE
        found = opened_by(load_identity(path), finished_template) if path.exists() else set()
        assert found == SHARES.get(folder.name, set()), folder.name


def test_a_person_s_stolen_share_is_no_key(finished_template: Workspace) -> None:
    """A share of a landing key is as random as the pad: it opens no delivery."""
    import pyrage

    identity = load_identity(finished_template.zone("officers") / "siro" / IDENTITY_FILE)
    tried = 0
    for folder in sorted(finished_template.zone("landing").iterdir()):
        if not (folder / SIRO_SHARE).exists():
            continue
        share = pyrage.decrypt(
            (folder / SIRO_SHARE).read_bytes(), [pyrage.x25519.Identity.from_str(str.__str__(identity))]
        )
        assert b"AGE-SECRET-KEY" not in share.upper()
        tried += 1
    assert tried


def test_the_pipeline_s_stolen_keys_open_deliveries_inside_their_window_and_no_share(
    finished_template: Workspace,
) -> None:
    found = {
        name: opened_by(identity, finished_template)
        for name, identity in age_identities(finished_template).items()
    }
    landing_keys = {name for name in found if name.startswith("landing key of ")}
    assert landing_keys
    assert found["unlock"] == {"pipeline.keyring.age"}
    assert found["landing_recovery 0"] == {PIPELINE_KEY}
    assert found["inbox 0"] == set(), "what was landed has left the inbox"
    assert {name: found[name] for name in landing_keys} == {name: {CONTENT} for name in landing_keys}
    every = set().union(*found.values())
    assert every & {share_file("guardian"), share_file("siro"), GUARDIAN_SHARE, SIRO_SHARE} == set()


def test_after_the_window_the_pipeline_s_stolen_keys_open_no_delivery(after_the_window: Workspace) -> None:
    contents = [path for path in sealed_files(after_the_window) if path.name == CONTENT]
    assert contents
    assert len(vaults(after_the_window)) >= 5
    for name, identity in age_identities(after_the_window).items():
        assert CONTENT not in opened_by(identity, after_the_window), name
