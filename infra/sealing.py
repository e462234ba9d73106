"""Sealing: content that only the holder of a private age key can open.

The format is age, version 1, and all of it is done by ``pyrage``, the Rust implementation: nothing here knows
a cipher. Small content (shares, keyrings, landing keys) goes through it in one piece, deliveries as a stream
of bounded memory. What is sealed here opens with the standard ``age`` tool and the other way round. Keys are
text as that tool writes them: ``age1...`` is public, ``AGE-SECRET-KEY-1...`` is private.
"""

from __future__ import annotations

import atexit
import binascii
import contextlib
import fcntl
import io
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import pyrage

from infra.files import storage_errors
from schemas.errors import CannotOpen, DamagedContent, KeyUnavailable, StorageFailed

if TYPE_CHECKING:
    from typing_extensions import Buffer

# How much stands between a stream's two threads. The kernel lets anybody have this much.
_PIPE_BYTES = 1 << 20
# pyrage reads and writes 8 KiB at a time. Gathered into steps of this size a stream is a third faster than
# without, and larger steps gain nothing.
_STEP = 1 << 18

_VERSION = b"age-encryption.org/"
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_LONGEST_HEADER = 16 * 1024


class SecretText(str):
    """A private key as text. It shows itself nowhere: not in a message, a log line, or a traceback.

    Comparison, encoding and passing to a library work as for any text; only the printed forms are closed.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"


class SecretBytes(bytes):
    """Key bytes that print as ``<secret>``. Otherwise ordinary bytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"


def new_identity() -> tuple[SecretText, str]:
    """A new age key pair: the private half, which does not print, and the public half."""
    identity = pyrage.x25519.Identity.generate()
    return SecretText(str(identity)), str(identity.to_public())


def public_of(identity: str) -> str:
    """The public half of a private key. Raises :class:`KeyUnavailable`."""
    return str(_identity(identity).to_public())


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise KeyUnavailable("this is not a private age key") from None


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise KeyUnavailable("this is not a public age key") from None


def _several(keys: str | Sequence[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys)


def _identities(keys: str | Sequence[str]) -> list[pyrage.x25519.Identity]:
    private = [_identity(text) for text in _several(keys)]
    if not private:
        raise CannotOpen("nothing can be opened without a key")
    return private


def _recipients(keys: str | Sequence[str]) -> list[pyrage.x25519.Recipient]:
    public = [_recipient(text) for text in _several(keys)]
    if not public:
        raise KeyUnavailable("nothing can be sealed without a recipient")
    return public


def seal(content: bytes, recipients: str | Sequence[str]) -> bytes:
    """Small ``content`` as an age file that any one of ``recipients`` opens.

    Raises :class:`KeyUnavailable` if there is no recipient or one is not an age key.
    """
    public = _recipients(recipients)
    try:
        return cast(bytes, pyrage.encrypt(bytes(content), public))
    except BaseException as error:
        raise _not_sealed(error) from None


def unseal(sealed: bytes, identities: str | Sequence[str]) -> SecretBytes:
    """The content of an age file, all of it or none. Raises :class:`CannotOpen`."""
    private = _identities(identities)
    _refuse_endless_header(bytes(sealed[:_LONGEST_HEADER]))
    try:
        return SecretBytes(pyrage.decrypt(bytes(sealed), private))
    except BaseException as error:
        if not isinstance(_not_opened(error), CannotOpen):
            raise
        raise CannotOpen(
            "the sealed content does not open: another key, or changed or cut content",
            next_step="check which key it was sealed to",
        ) from None


class _Worker:
    """``pyrage`` at work on a whole stream, in a thread of its own at the far end of a pipe.

    ``pyrage`` pushes a stream from start to end, while our callers pull and push at their own pace: the pipe
    stands between. Its ends are plain files, which let other threads run while they wait.

    The thread knows nothing of this object, so an object that nobody wants any more is collected. That closes
    the near end, and the thread finds the pipe broken and ends.
    """

    def __init__(self, work: Callable[[io.FileIO], None], *, reading: bool) -> None:
        with storage_errors("a pipe"):
            ends = os.pipe()
        with contextlib.suppress(OSError):  # the default size is slower, nothing else
            fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.near, self._far = (
            (io.FileIO(ends[0], "rb"), io.FileIO(ends[1], "wb"))
            if reading
            else (io.FileIO(ends[1], "wb"), io.FileIO(ends[0], "rb"))
        )
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(
            target=_run, args=(work, self._far, self._errors), name="age stream", daemon=True
        )
        try:
            self._thread.start()
        except BaseException:
            self.forget()
            raise
        _WORKERS.add(self)

    def outcome(self) -> BaseException | None:
        """What stopped the work, or None if it was done. Waits for it."""
        if self._thread is not threading.current_thread():  # rubbish may be collected in any thread
            self._thread.join()
        return self._errors[0] if self._errors else None

    def end(self) -> None:
        """Stop the work wherever it is. Afterwards nothing touches the source or the sink."""
        self.near.close()
        self.outcome()

    def forget(self) -> None:
        """Close both ends, where the thread does not exist."""
        self.near.close()
        self._far.close()

    def __del__(self) -> None:
        if hasattr(self, "near"):
            self.near.close()


def _run(work: Callable[[io.FileIO], None], far: io.FileIO, errors: list[BaseException]) -> None:
    try:
        work(far)
    except BaseException as error:  # it is raised again where the stream is used
        errors.append(error)
    finally:
        far.close()


_WORKERS: weakref.WeakSet[_Worker] = weakref.WeakSet()


def _forget_workers() -> None:
    for worker in list(_WORKERS):
        worker.forget()


def _end_workers() -> None:
    for worker in list(_WORKERS):
        worker.end()


# A child process has a copy of the ends but not the thread: held open there, they would keep the pipe from
# ever ending here.
os.register_at_fork(after_in_child=_forget_workers)
# A thread must not be inside pyrage while the interpreter is taken down.
atexit.register(_end_workers)


class _Source(io.RawIOBase):
    """The sealed bytes as ``pyrage`` is given them. Keeps the error that stopped them."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._readinto = getattr(source, "readinto", None)
        self.error: BaseException | None = None
        first = bytearray(_LONGEST_HEADER)
        filled = 0
        while filled < len(first) and (taken := self._take(memoryview(first)[filled:])):
            filled += taken
        self._first = bytes(first[:filled])
        _refuse_endless_header(self._first)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        room = memoryview(buffer).cast("B")
        if self._first:
            taken = min(len(room), len(self._first))
            room[:taken], self._first = self._first[:taken], self._first[taken:]
            return taken
        try:
            return self._take(room)
        except BaseException as error:
            self.error = error
            raise

    def _take(self, room: memoryview) -> int:
        with storage_errors("a sealed file's reader"):
            if self._readinto is not None:
                return int(self._readinto(room) or 0)
            piece = self._source.read(len(room))
        room[: len(piece)] = piece
        return len(piece)


class _Sink:
    """Where ``pyrage`` writes the sealed bytes. Keeps the error that stopped them."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.error: BaseException | None = None

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        try:
            while rest:  # a raw file may take fewer bytes than it was given
                with storage_errors("a sealed file"):
                    rest = rest[self._sink.write(rest) :]
        except BaseException as error:
            self.error = error
            raise
        return len(content)

    def flush(self) -> None:
        """The caller's file is the caller's to flush."""


class _Plaintext(io.RawIOBase):
    """The far end of the pipe while sealing. Its end is the end of the content only if somebody said so."""

    def __init__(self, far: io.FileIO, finished: threading.Event) -> None:
        super().__init__()
        self._far = far
        self._finished = finished

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        taken = self._far.readinto(buffer)
        if not taken and not self._finished.is_set():
            raise BrokenPipeError  # pyrage would seal what came as if it were all
        return taken or 0


class DecryptingReader(io.RawIOBase):
    """Plaintext of an age file, decrypted while it is read.

    Bytes that were handed out are authentic, but the content is known to be whole only at the end: ``read``
    and ``readinto`` report the end after the authenticated end alone and raise :class:`CannotOpen` for every
    other one.
    """

    def __init__(self, source: BinaryIO, identities: str | Sequence[str]) -> None:
        super().__init__()
        private = _identities(identities)
        sealed = _Source(source)

        def work(far: io.FileIO) -> None:
            plain = io.BufferedWriter(far, _STEP)
            try:
                pyrage.decrypt_io(io.BufferedReader(sealed, _STEP), plain, private)
            except BaseException as error:
                raise sealed.error or _not_opened(error) from None
            finally:
                plain.close()

        self.abandoned = False
        self.ended_well = False  # True once the authenticated end of the content was reached
        self._worker = _Worker(work, reading=True)
        self._plain = io.BufferedReader(self._worker.near, _STEP)

    def readable(self) -> bool:
        return True

    def wait_for_the_first(self) -> None:
        """Wait until something was opened. Raises what :meth:`read` would, and takes nothing."""
        if not self._plain.peek(1):
            self._end_reached()

    def readinto(self, buffer: Buffer) -> int:
        """Fill ``buffer``, less of it only at the authenticated end. Returns the number of bytes."""
        if self.closed:
            raise ValueError("the sealed stream is already closed")
        room = memoryview(buffer).cast("B")
        filled = self._plain.readinto(room)
        if filled < len(room):
            self._end_reached()
        return filled

    def _end_reached(self) -> None:
        error = self._worker.outcome()
        if error is not None:
            raise error
        self.ended_well = True

    def read(self, size: int | None = -1) -> bytes:
        """Exactly ``size`` bytes, fewer only at the authenticated end; everything if ``size`` is negative."""
        if size is None or size < 0:
            return self.readall()
        content = bytearray(size)
        filled = self.readinto(content)
        return bytes(memoryview(content)[:filled])

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(_PIPE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def abandon(self) -> None:
        """Say that the rest is not wanted (a look at the first lines): the content must not be relied on."""
        self.abandoned = True

    def verify_to_the_end(self) -> None:
        """Decrypt and forget what is left. Raises :class:`CannotOpen` if it does not end well."""
        spare = bytearray(_STEP)
        while not self.ended_well:
            if self._plain.readinto(spare) < len(spare):
                self._end_reached()

    def stop(self) -> None:
        """Decrypt no further. The source is not touched any more."""
        self._worker.end()
        self.close()


class EncryptingWriter(io.RawIOBase):
    """Takes plaintext and writes an age file into its sink."""

    def __init__(self, sink: BinaryIO, recipients: str | Sequence[str]) -> None:
        super().__init__()
        public = _recipients(recipients)
        sealed = _Sink(sink)
        self._finished = finished = threading.Event()

        def work(far: io.FileIO) -> None:
            try:
                pyrage.encrypt_io(io.BufferedReader(_Plaintext(far, finished), _STEP), sealed, public)
            except BaseException as error:
                raise sealed.error or _not_sealed(error) from None
            if sealed.error is not None:  # pyrage does not report an error of its last write
                raise sealed.error

        self._worker = _Worker(work, reading=False)
        self._plain = io.BufferedWriter(self._worker.near, _STEP)

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer) -> int:
        """Take all of ``content``. An error of the sink may show itself at a later call only."""
        if self.closed:
            raise ValueError("the sealed stream is already finished")
        with self._broken_pipes():
            return self._plain.write(content)

    def finish(self) -> None:
        """Write the final chunk: from here on the stream is whole."""
        with self._broken_pipes():
            self._plain.flush()
        self._finished.set()
        self._worker.near.close()
        error = self._worker.outcome()
        if error is not None:
            raise error

    def stop(self) -> None:
        """Seal no further. The sink is not touched any more; unfinished, it holds a cut stream."""
        self._worker.end()
        self.close()

    @contextmanager
    def _broken_pipes(self) -> Iterator[None]:
        """The pipe breaks when the thread has stopped: say why it did."""
        try:
            yield
        except OSError:
            raise self._worker.outcome() or StorageFailed("a file could not be sealed") from None


def _refuse_endless_header(first: bytes) -> None:
    """Refuse what cannot be an age file before its key is tried.

    The time that opening a header takes grows with the square of its length, without end in a hostile file.
    A recipient takes about 120 bytes of it. Only the mark of its end is looked for: ``pyrage`` judges what it
    is, and reads no further where the mark stands out of place.
    """
    if first.startswith(_ARMOR):
        text = b"".join(first[len(_ARMOR) :].partition(b"-----")[0].split())
        with contextlib.suppress(binascii.Error):
            first = _VERSION + binascii.a2b_base64(text[: len(text) // 4 * 4])
    if not first.startswith(_VERSION) or b"\n---" not in first:
        raise _changed()


def _changed() -> DamagedContent:
    return DamagedContent(
        "the sealed content was changed or cut short, or is no age file",
        next_step="ask the sender for the file again and compare its SHA-256",
    )


def _not_opened(error: BaseException) -> BaseException:
    """What to raise for what ``pyrage`` raised while it opened; its own text is not passed on."""
    if isinstance(error, pyrage.DecryptError) and str(error) == "No matching keys found":
        return CannotOpen(
            "no key of ours opens this file",
            next_step="ask the sender which public key it was sealed to; ours is in keys/public.json",
        )
    return _changed() if isinstance(error, pyrage.DecryptError | OSError) or _is_panic(error) else error


def _not_sealed(error: BaseException) -> BaseException:
    """What to raise for what ``pyrage`` raised while it sealed, other than for the sink's errors."""
    if _is_panic(error):  # it meets a key with which everybody could compute the shared secret
        return KeyUnavailable("this age recipient is not a usable key")
    return StorageFailed("a file could not be sealed") if isinstance(error, Exception) else error


def _is_panic(error: BaseException) -> bool:
    """A failed assertion in Rust. Its class cannot be imported, and it is no ``Exception``."""
    return type(error).__name__ == "PanicException"


@contextmanager
def decrypting_reader(source: BinaryIO, identities: str | Sequence[str]) -> Iterator[DecryptingReader]:
    """Open an age file, binary or armored, as a stream of plaintext in about 2 MiB of memory.

    A thread reads ``source`` ahead; it has ended when the context is left. Leaving the context normally reads
    on to the end if the caller did not, and raises :class:`CannotOpen` unless the cipher stream ended well,
    so nothing after the ``with`` can rest on a cut file. A caller that wants only the beginning says so with
    ``reader.abandon()``. An exception inside passes through at once.

    Raises :class:`CannotOpen` (wrong key, changed or cut content, bytes after the end),
    :class:`KeyUnavailable` (an identity that is no key) and :class:`StorageFailed` (the source).
    """
    reader = DecryptingReader(source, identities)
    try:
        reader.wait_for_the_first()
        yield reader
        if not reader.abandoned:
            reader.verify_to_the_end()
    finally:
        reader.stop()


@contextmanager
def encrypting_writer(sink: BinaryIO, recipients: str | Sequence[str]) -> Iterator[EncryptingWriter]:
    """A writable whose content reaches ``sink`` as an age file for ``recipients``; ``sink`` stays open.

    A thread writes to ``sink``; it has ended when the context is left. Only leaving the context normally
    writes the final chunk. After an exception inside, what stands in ``sink`` is a cut stream that no reader
    accepts.

    Raises :class:`KeyUnavailable`, :class:`StorageFull` and :class:`StorageFailed`.
    """
    writer = EncryptingWriter(sink, recipients)
    try:
        yield writer
        writer.finish()
    finally:
        writer.stop()
