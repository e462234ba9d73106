"""The policy on requests, ``schemas/policy/requests.yaml``, and its strict loader: kinds, clocks, working days."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.contract import Strict
from schemas.errors import UsageError
from schemas.yaml_text import parse_model, read_yaml

POLICY = Path(__file__).parent / "policy" / "requests.yaml"

State = Literal["received", "confirmed", "answered", "closed"]
Event = Literal["confirm", "answer", "close"]
CODE = r"^[a-z]+(?:_[a-z]+)*$"


class Clock(Strict):
    """One period in which a request is to be answered: exactly one of months, working days and days."""

    starts: Literal["received", "identity_confirmed"]
    months: int | None = Field(default=None, ge=1)
    working_days: int | None = Field(default=None, ge=1)
    days: int | None = Field(default=None, ge=1)
    status: Literal["in_force", "superseded"]
    source: str = Field(min_length=10)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if sum(length is not None for length in (self.months, self.working_days, self.days)) != 1:
            raise ValueError("a clock has one length: months, working_days or days")
        return self


class RequestKind(Strict):
    """One kind of request. ``about_a_person``: it is answered only after the identity was confirmed. ``answer``: the
    paragraphs of its answer behind the list of what is held."""

    code: str = Field(pattern=CODE)
    title: str
    about_a_person: bool
    law: str = Field(min_length=10)
    answer: tuple[str, ...] = Field(min_length=1)
    clocks: tuple[Clock, ...]

    @model_validator(mode="after")
    def _has_a_clock(self) -> Self:
        if not any(clock.status == "in_force" for clock in self.clocks):
            raise ValueError(f"{self.code}: no clock is in force")
        starts = {clock.starts for clock in self.clocks if clock.status == "in_force"}
        if not self.about_a_person and starts != {"received"}:
            raise ValueError(
                f"{self.code}: no identity is confirmed, so its clock starts when it is received"
            )
        return self


class Transition(Strict):
    from_state: State = Field(alias="from")
    event: Event
    to: State
    says: str = Field(min_length=10)


class Calendar(Strict):
    """Working days are Mondays to Fridays that are no bank holiday; known from ``first`` to ``last``."""

    first: date
    last: date
    source: str = Field(min_length=10)
    bank_holidays: tuple[date, ...]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        days = self.bank_holidays
        if list(days) != sorted(set(days)) or not all(self.first <= day <= self.last for day in days):
            raise ValueError("the bank holidays are in order, each once, and within the calendar")
        years = {day.year for day in days}
        if years != set(range(self.first.year, self.last.year + 1)):
            raise ValueError("a year of the calendar has no bank holidays")
        return self

    def is_working_day(self, day: date) -> bool:
        """Raises :class:`UsageError` for a day outside the calendar: without it a date would be a guess."""
        if not self.first <= day <= self.last:
            raise UsageError(
                f"the calendar of bank holidays covers {self.first:%Y} to {self.last:%Y}",
                next_step="add the years to schemas/policy/requests.yaml",
            )
        return day.weekday() < 5 and day not in self.bank_holidays


class RequestPolicy(Strict):
    title: str
    handled_by: tuple[str, ...] = Field(min_length=1)
    kinds: tuple[RequestKind, ...]
    first_state: State
    transitions: tuple[Transition, ...]
    outcomes: tuple[str, ...] = Field(min_length=1)
    calendar: Calendar

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({kind.code for kind in self.kinds}) != len(self.kinds):
            raise ValueError("a kind of request is listed twice")
        steps = [(row.from_state, row.event) for row in self.transitions]
        if len(set(steps)) != len(steps):
            raise ValueError("an event leads to two states")
        return self

    def kind(self, code: str) -> RequestKind:
        """Raises :class:`UsageError` for one that does not exist."""
        for kind in self.kinds:
            if kind.code == code:
                return kind
        raise UsageError(
            "there is no such kind of request", next_step="one of: " + ", ".join(k.code for k in self.kinds)
        )


@cache
def request_policy(path: Path = POLICY) -> RequestPolicy:
    """The policy of ``path``. Raises :class:`ContractDefinitionError` for anything unknown or missing."""
    return parse_model(RequestPolicy, read_yaml(path), path.name)
