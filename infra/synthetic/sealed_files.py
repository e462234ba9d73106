"""Files that are encrypted while they are written: no plaintext ever lies on the disk.

A thread per file runs age's stream encryption over what the generator hands it; the queue between them is
short, so memory stays bounded. The file is written beside its place with the suffix ``.part`` and renamed
when all files of a run are complete.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Final

from infra.files import open_private, storage_error, storage_errors, sync_folder
from schemas.errors import StorageFailed, UsageError

QUEUE_LENGTH: Final = 4


@dataclass(frozen=True)
class Written:
    """What went into a file: bytes of plaintext and their sha256."""

    plaintext_bytes: int
    plaintext_digest: str


def recipient_of(text: str) -> Any:
    """An age public key (``age1...``). Raises :class:`UsageError` if it is none."""
    import pyrage

    try:
        return pyrage.x25519.Recipient.from_str(text)
    except Exception:  # pyrage's own type repeats the text
        raise UsageError(
            "the recipient is not an age public key", next_step="give one that begins age1"
        ) from None


class _Reader:
    """What the generator put in, as the stream that the encryption reads."""

    def __init__(self, queue: Queue[bytes | None]) -> None:
        self._queue = queue
        self._rest = memoryview(b"")
        self.ended = False

    def read(self, size: int = -1) -> bytes:
        while not self._rest and not self.ended:
            chunk = self._queue.get()
            if chunk is None:
                self.ended = True
            else:
                self._rest = memoryview(chunk)
        if size < 0:
            size = len(self._rest)
        taken = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return taken

    def drain(self) -> None:
        """Take what still comes, so that the generator never waits for a file that has failed."""
        while not self.ended:
            self.ended = self._queue.get() is None


class _Writer:
    """The file, remembering the operating system's error that age's binding would turn into text."""

    def __init__(self, path: Path) -> None:
        self._stream = os.fdopen(open_private(path), "wb", buffering=1 << 20)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        finally:
            self._stream.close()

    def abandon(self) -> None:
        """Close without a word: the file has failed already."""
        with suppress(OSError):
            self._stream.close()


class SealedFile:
    """One file being written; ``recipient`` None writes it in plain."""

    def __init__(self, path: Path, recipient: Any | None) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._queue: Queue[bytes | None] = Queue(QUEUE_LENGTH)
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._recipient = recipient
        self._failure: Exception | None = None
        with storage_errors("a synthetic extract"):
            self._writer = _Writer(self.part)
        self._thread = threading.Thread(target=self._run, name="sealed-file", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        reader = _Reader(self._queue)
        try:
            if self._recipient is None:
                while chunk := reader.read():
                    self._writer.write(chunk)
            else:
                import pyrage

                pyrage.encrypt_io(reader, self._writer, [self._recipient])
                if self._writer.error is not None:  # age's binding does not report an error of its last write
                    raise self._writer.error
            self._writer.close()
        except Exception as error:
            self._failure = error
            self._writer.abandon()
            reader.drain()

    def put(self, data: bytes) -> None:
        """Append plaintext. Raises a typed storage error once the file has failed."""
        self._raise_failure()
        self._digest.update(data)
        self._bytes += len(data)
        self._queue.put(data)

    def end(self) -> Written:
        """Complete the encrypted file, still under its ``.part`` name."""
        self._queue.put(None)
        self._thread.join()
        self._raise_failure()
        return Written(self._bytes, self._digest.hexdigest())

    def discard(self) -> None:
        """Stop and leave nothing behind."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self.part.unlink(missing_ok=True)

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        cause = self._writer.error or (self._failure if isinstance(self._failure, OSError) else None)
        if cause is not None:
            raise storage_error(cause, "a synthetic extract") from None
        raise StorageFailed("a synthetic extract could not be encrypted") from None


def put_in_place(files: Sequence[SealedFile]) -> None:
    """Give complete files their names, and make that durable."""
    with storage_errors("the synthetic extracts"):
        for file in files:
            os.replace(file.part, file.path)
        for folder in {file.path.parent for file in files}:
            sync_folder(folder)
