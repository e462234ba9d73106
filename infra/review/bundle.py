"""Bundle: what an officer takes to the own machine in order to decide, in a folder of the workspace's shape.

It holds the request, the register, the pipeline's public keys, the settings (for the agreement), and of each vault or
landed delivery concerned the signed manifest or receipt and the two sealed files of shares. Nothing in it is secret to
anybody who has it: the shares are sealed to the officers, and there is no approval in it, so it does not show what the
other one decided.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.files import make_folder, private_by_default, storage_errors, write_atomic
from infra.keyring import PUBLIC_FILE
from infra.register import REGISTER
from infra.review.case import REQUEST, Decided
from infra.workspace import Workspace
from schemas.errors import UsageError

SETTINGS = "settings.yaml"


def make_bundle(workspace: Workspace, case: Decided, target: Path) -> list[str]:
    """Write the bundle of ``case`` into ``target``, a new or empty folder; returns the names of its files.

    Raises :class:`UsageError` if the folder holds something, :class:`StorageFailed`, :class:`StorageFull`.
    """
    if target.exists() and any(target.iterdir()):
        raise UsageError("the folder for the bundle is not empty", next_step="choose a new folder")
    request = case.request()
    wanted = [SETTINGS, f"keys/{PUBLIC_FILE}"]
    with storage_errors("the register's reader"):
        wanted += [
            f"keys/{REGISTER}/{path.name}"
            for path in sorted((workspace.zone("keys") / REGISTER).glob("*.json"))
        ]
    wanted += case.needed()
    make_folder(target)
    with storage_errors("the bundle"), private_by_default():
        for name in wanted:
            make_folder((target / name).parent)
            shutil.copyfile(workspace.root / name, target / name)
    name = f"{case.zone}/{case.case}/{REQUEST}"
    make_folder((target / name).parent)
    write_atomic(target / name, request.content)
    return [*wanted, name]
