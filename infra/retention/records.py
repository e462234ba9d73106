"""Records: the folder ``retention/`` of a workspace, in which every signed document about destruction is kept.

::

    retention/holds/<digest>.json           holds and their ends
              withdrawals/<digest>.json     deliveries taken out of use
              orders/<order id>.json        orders that were begun, signed by two persons
              evidence/<order id>-<n>.json  what an order found, written before anything went
              tombstones/000001.json ...    the deliveries that are gone, each chained to the one before
              certificates/<record name>    what is gone
              witnesses/<digest>.json       who has looked at a certificate

Nothing here is ever changed or removed. It holds ids, digests and reasons, and no value of any record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.commit_points import commit_point
from infra.files import make_folder
from infra.retention.documents import (
    Certificate,
    Evidence,
    Hold,
    Kind,
    Order,
    RetentionDocument,
    Signed,
    Tombstone,
    Withdrawal,
    Witnessed,
    read,
)
from infra.review.case import write_new
from infra.workspace import Workspace
from schemas.errors import IntegrityError, UsageError

FOLDER = "retention"
FOLDER_OF: dict[type[RetentionDocument], str] = {
    Hold: "holds",
    Withdrawal: "withdrawals",
    Order: "orders",
    Evidence: "evidence",
    Tombstone: "tombstones",
    Certificate: "certificates",
    Witnessed: "witnesses",
}


@dataclass(frozen=True)
class Records:
    """The folder ``retention/`` at ``root``."""

    root: Path

    @classmethod
    def of(cls, workspace: Workspace) -> Records:
        return cls(workspace.root / FOLDER)

    def path(self, kind: type[RetentionDocument], name: str) -> Path:
        return self.root / FOLDER_OF[kind] / name

    def put(self, signed: Signed[Kind], name: str) -> Path:
        """Keep a document durably under a name that nothing has yet. Putting the same bytes again does nothing.

        Raises :class:`UsageError` if another document has that name.
        """
        path = self.path(type(signed.document), name)
        make_folder(path.parent)
        commit_point("retention.record.before")
        if not write_new(path, signed.content) and path.read_bytes() != signed.content:
            raise UsageError(f"there is another document of the name {path.name} already")
        commit_point("retention.record.after")
        return path

    def all(self, kind: type[Kind]) -> Iterator[tuple[Path, Signed[Kind]]]:
        """(path, document) of every document of ``kind``, by name; signatures are not checked here.

        Raises :class:`IntegrityError` for a file that is none.
        """
        folder = self.root / FOLDER_OF[kind]
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.name.endswith(".part"):
                continue  # of a kill while it was written
            if path.is_symlink() or not path.is_file():
                raise IntegrityError(f"retention/{FOLDER_OF[kind]} holds something that is no document")
            yield path, read(path, kind)

    def order(self, order_id: str) -> Signed[Order] | None:
        """The order of that id that was begun here, or None."""
        path = self.path(Order, f"{order_id}.json")
        return read(path, Order) if path.exists() else None
