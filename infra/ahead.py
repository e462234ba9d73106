"""Ahead: an iterator worked in a thread of its own, one item ahead of whoever takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_PATIENCE_SECONDS = 0.2  # how long a thread that nobody wants any more may take to notice


@dataclass(frozen=True)
class _End:
    """The end of the items, or the error in their place."""

    error: BaseException | None


class _Worker(Generic[T]):
    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._stop = threading.Event()
        self.made: queue.Queue[T | _End] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
                del item  # else this thread would keep it while it makes the next one
        except BaseException as error:
            self._put(_End(error))
        else:
            self._put(_End(None))

    def _put(self, item: T | _End) -> bool:
        while not self._stop.is_set():
            try:
                self.made.put(item, timeout=_PATIENCE_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """``items``, in their order. While one is used the next is made; at most two more than asked for exist.

    An error of ``items`` is raised here as it was raised there, after the items before it. Given up early (closed),
    the thread ends before this returns, so that what ``items`` reads from may be closed then.
    """
    worker = _Worker(items)
    try:
        while not isinstance(item := worker.made.get(), _End):
            yield item
            del item
        if item.error is not None:
            raise item.error
    finally:
        worker.end()
