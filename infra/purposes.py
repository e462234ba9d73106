"""Purposes: the closed list of what anything may be done for, by whom, and until when it was last agreed.

The list is data, ``schemas/policy/purposes.yaml`` and ``schemas/policy/roles.yaml``. Every run, read and
release names a purpose from it (privacy notice: the data are used only "in a way that supports our work";
Caldicott principle 1: uses that continue are regularly reviewed). A refusal says which of the conditions
failed and, where that helps, what would be allowed; the caller records it in the audit log.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from schemas.errors import NotPermitted
from schemas.yaml_text import parse_model, read_yaml

POLICY_FOLDER = Path(__file__).parent.parent / "schemas" / "policy"
ZONES = ("inbox", "landing", "vault", "linkage", "lake", "published", "outbox", "audit")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Role(_Strict):
    """An entry of roles.yaml. ``officer``: takes part in opening the vault; ``training``: must be in date."""

    code: str
    title: str
    kind: Literal["service", "staff", "organisation"]
    training: bool
    officer: bool
    does: str


class Action(_Strict):
    """One thing that can be done to a zone, for example ``lake.query``."""

    code: str
    zone: Literal["inbox", "landing", "vault", "linkage", "lake", "published", "outbox", "audit"]
    says: str


class Purpose(_Strict):
    """One reason for which data may be touched. ``review_by`` is the last day on which it counts."""

    code: str
    title: str
    roles: tuple[str, ...]
    actions: tuple[str, ...]
    legal_basis: str
    source: str
    owner: str
    review_by: date

    @field_validator("legal_basis", "source", "title")
    @classmethod
    def _said(cls, text: str) -> str:
        if len(text.strip()) < 10:
            raise ValueError("say it in words")
        return text


class Policy(_Strict):
    roles: tuple[Role, ...]
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, codes in (
            ("role", [role.code for role in self.roles]),
            ("action", [action.code for action in self.actions]),
            ("purpose", [purpose.code for purpose in self.purposes]),
        ):
            if len(set(codes)) != len(codes):
                raise ValueError(f"a {what} is listed twice")
        roles = {role.code for role in self.roles}
        actions = {action.code for action in self.actions}
        for purpose in self.purposes:
            unknown = ({*purpose.roles, purpose.owner} - roles) | (set(purpose.actions) - actions)
            if unknown:
                raise ValueError(f"purpose {purpose.code} names unknown {', '.join(sorted(unknown))}")
        return self

    def zones(self, purpose: Purpose) -> tuple[str, ...]:
        """The zones that ``purpose`` opens, in the order of the actions."""
        by_code = {action.code: action.zone for action in self.actions}
        return tuple(dict.fromkeys(by_code[code] for code in purpose.actions))

    def role(self, code: str) -> Role:
        """The role ``code``; raises :class:`NotPermitted` for one that does not exist."""
        for role in self.roles:
            if role.code == code:
                return role
        raise NotPermitted(
            "there is no such role", next_step="one of: " + ", ".join(role.code for role in self.roles)
        )


@cache
def load_policy(folder: Path = POLICY_FOLDER) -> Policy:
    """The policy of ``folder``; raises :class:`ContractDefinitionError` for anything unknown or missing."""
    document = read_yaml(folder / "roles.yaml") | read_yaml(folder / "purposes.yaml")
    return parse_model(Policy, document, "policy")


def load_roles() -> dict[str, Role]:
    """Role code -> role, as in roles.yaml."""
    return {role.code: role for role in load_policy().roles}


def require_purpose(code: str, role: str, action: str, today: date, policy: Policy | None = None) -> Purpose:
    """The purpose ``code`` if ``role`` may do ``action`` for it ``today``; else :class:`NotPermitted`.

    ``today`` is the day of the caller's clock. On its review date a purpose still counts, the day after it
    stops.
    """
    policy = policy or load_policy()
    policy.role(role)
    known = {purpose.code: purpose for purpose in policy.purposes}
    if not code:
        raise NotPermitted(
            "nothing is done without a purpose", next_step="name one of: " + ", ".join(sorted(known))
        )
    purpose = known.get(code)
    if purpose is None:
        raise NotPermitted("there is no such purpose", next_step="name one of: " + ", ".join(sorted(known)))
    if action not in {known_action.code for known_action in policy.actions}:
        raise NotPermitted("there is no such action in the policy")
    if role not in purpose.roles:
        raise NotPermitted(
            f"role {role} may not act for purpose {code}",
            next_step="this purpose is for: " + ", ".join(purpose.roles),
        )
    if action not in purpose.actions:
        raise NotPermitted(
            f"purpose {code} does not open {action}",
            next_step="it opens: " + ", ".join(purpose.actions),
        )
    if today > purpose.review_by:
        days = (today - purpose.review_by).days
        raise NotPermitted(
            f"the review of purpose {code} has been overdue for {days} day{'s' if days != 1 else ''}",
            next_step=f"its owner ({purpose.owner}) reviews it and sets a new review_by in purposes.yaml",
        )
    return purpose


def overdue_purposes(today: date, policy: Policy | None = None, within_days: int = 0) -> list[Purpose]:
    """Purposes whose review is overdue or falls due within ``within_days`` days, for ``status``."""
    purposes = (policy or load_policy()).purposes
    return sorted(
        (p for p in purposes if (p.review_by - today).days < within_days), key=lambda p: (p.review_by, p.code)
    )
