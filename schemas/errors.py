"""Every error Wardwatch reports: a stable code, a fixed exit code, and what to do next.

A message is safe by construction: it may carry counts, rule identifiers, column names from a contract,
delivery identifiers and paths of the workspace, and never a value from a record. Foreign exceptions print
the value they choked on (Polars, DuckDB, pyarrow, pydantic, ``int()``, ``KeyError``), so they are translated
where they are caught with ``raise ... from None``.

The exit codes are part of the command line's contract and are listed in the README; a test holds the two
together.
"""

from __future__ import annotations

from typing import ClassVar


class WardwatchError(Exception):
    """Root of all errors that are shown to a person without a traceback.

    ``code`` is stable and greppable, ``exit_code`` is what the process returns, ``next_step`` says what the
    reader can do about it.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        tail = f". Next: {self.next_step}" if self.next_step else ""
        return f"[{self.code}] {self.message}{tail}"


# 2: the call itself is wrong -------------------------------------------------------------------------


class UsageError(WardwatchError):
    code = "usage"
    exit_code = 2


class ContractDefinitionError(WardwatchError):
    """A contract, code list or policy file in ``schemas/`` does not load."""

    code = "contract.definition"
    exit_code = 3


# 10-19: a delivery is not taken ---------------------------------------------------------------------


class DeliveryRefused(WardwatchError):
    """A delivery does not fit its contract and was not taken; nothing of it was kept."""

    code = "delivery.refused"
    exit_code = 10


class ForbiddenColumn(DeliveryRefused):
    """A name or address column was delivered: an incident, not a data error."""

    code = "delivery.forbidden_column"
    exit_code = 11


class CannotOpen(DeliveryRefused):
    """No key of ours opens it, or the opener cannot tell a wrong key from damage."""

    code = "delivery.cannot_open"
    exit_code = 12


class DamagedContent(CannotOpen):
    """It was cut short or changed, or is not what it says it is."""

    code = "delivery.damaged"
    exit_code = 12


class DeliveryConflict(DeliveryRefused):
    """The same name with other content, or content that contradicts what is held."""

    code = "delivery.conflict"
    exit_code = 13


class UnsafeArchive(DeliveryRefused):
    code = "delivery.unsafe_archive"
    exit_code = 14


class CriticalRuleBroken(DeliveryRefused):
    code = "delivery.critical_rule"
    exit_code = 15


# 20-29: a person may not do this --------------------------------------------------------------------


class NotPermitted(WardwatchError):
    """``reason_code`` is what the audit log says of the refusal."""

    code = "access.not_permitted"
    exit_code = 20

    def __init__(self, message: str, *, next_step: str = "", reason_code: str = "not_permitted") -> None:
        super().__init__(message, next_step=next_step)
        self.reason_code = reason_code


class IdentifierInText(WardwatchError):
    """Text that a person typed holds something that looks like an identifier."""

    code = "access.identifier_in_text"
    exit_code = 21


# 30-39: the place it runs in ------------------------------------------------------------------------


class Busy(WardwatchError):
    code = "workspace.busy"
    exit_code = 30


class WorkspaceError(WardwatchError):
    code = "workspace.unusable"
    exit_code = 31


class StorageFull(WardwatchError):
    code = "storage.full"
    exit_code = 32


class StorageFailed(WardwatchError):
    code = "storage.failed"
    exit_code = 33
    transient = True


class KeyUnavailable(WardwatchError):
    code = "keys.unavailable"
    exit_code = 34


# 40-49: something that was stored is not what was stored --------------------------------------------


class IntegrityError(WardwatchError):
    code = "integrity.failed"
    exit_code = 40


class IndicatorCheckFailed(WardwatchError):
    """A ``-- fail`` check of an indicator found rows, so nothing was published."""

    code = "indicator.check_failed"
    exit_code = 41


class DisclosureRefused(WardwatchError):
    code = "disclosure.refused"
    exit_code = 42


# 74: as sysexits.h EX_IOERR, the code the audit's readers expect -------------------------------------


class AuditUnavailable(WardwatchError):
    """No durable audit line could be written, so the action did not happen."""

    code = "audit.unavailable"
    exit_code = 74
