"""A step of a run: called plainly, or as a Prefect task.

Prefect stores the message of an exception in its database in clear, so nothing but a typed error, whose message
is safe by construction, may leave a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from infra.hardening import safe_summary
from schemas.errors import WardwatchError

T = TypeVar("T")

# A transient error of the storage is tried again this often, after these many seconds.
RETRY_DELAYS: list[float] = [5, 30, 120]


class Step(Protocol):
    """Runs ``action`` as the step ``name`` and gives its result."""

    def __call__(self, name: str, action: Callable[[], T]) -> T: ...


class InternalError(WardwatchError):
    """An error that is a defect of ours, reported by type and place, without its message."""


def guarded(action: Callable[[], T]) -> T:
    """Call ``action``; anything but a typed error becomes one, without the text that may hold a value."""
    try:
        return action()
    except WardwatchError:
        raise
    except Exception as error:
        raise InternalError(
            safe_summary(error), next_step="report this line; it holds no value of a record"
        ) from None


def plain_step(name: str, action: Callable[[], T]) -> T:
    """A step without an orchestrator."""
    return guarded(action)


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failed step is worth another try: only errors that say so of themselves."""
    try:
        state.result()
    except WardwatchError as error:
        return error.transient
    except Exception:
        return False
    return False


def prefect_step(name: str, action: Callable[[], T]) -> T:
    """A step as a Prefect task: no arguments, no stored result, no cache."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    def run() -> T:
        return guarded(action)

    made = task(
        name=name,
        task_run_name=name,
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=RETRY_DELAYS,
        retry_condition_fn=is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
        log_prints=False,
    )(run)
    result: T = made()
    return result
