"""What is made ahead comes in order, with its errors, and leaves no thread behind."""

import threading
from collections.abc import Iterator

import pytest

from infra.ahead import ahead
from schemas.errors import CannotOpen


def count(until: int, ended: list[str]) -> Iterator[int]:
    try:
        yield from range(until)
    finally:
        ended.append("ended")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ahead"]


def test_items_come_in_order_and_all_of_them() -> None:
    ended: list[str] = []
    assert list(ahead(count(100, ended))) == list(range(100))
    assert ended == ["ended"]
    assert threads() == [], "the thread has ended with the items"


def test_nothing_is_an_answer_too() -> None:
    assert list(ahead(iter(()))) == []


def test_an_error_keeps_its_type_and_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise CannotOpen("the sealed content was cut short")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(CannotOpen, match="cut short"):
        next(items)
    assert threads() == []


def test_given_up_early_the_thread_ends_before_the_source_is_closed() -> None:
    ended: list[str] = []
    items = ahead(count(1_000_000, ended))
    assert next(items) == 0
    assert threads() == ["ahead"]
    items.close()  # type: ignore[attr-defined]
    assert threads() == [], "nothing reads from the source any more"


def test_no_more_than_two_are_made_ahead() -> None:
    made: list[int] = []

    def counted() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    items = ahead(counted())
    assert next(items) == 0
    threading.Event().wait(0.5)
    assert made == [0, 1, 2], "one waits in the queue, one in the hand of the thread"
    items.close()  # type: ignore[attr-defined]
