"""Permission: whose signatures stand under a document, and whether they may, at the moment of use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import permutations

from infra.register import Person, Register
from infra.retention.documents import Kind, Signed
from schemas.errors import IntegrityError, NotPermitted
from schemas.retention_policy import Act, RetentionPolicy


@dataclass(frozen=True)
class Signer:
    """A person who signed, the role by which, and the side of the act that it fills."""

    person: str
    role: str
    side: str
    key_id: str


def signers_of(
    signed: Signed[Kind], act: Act, register: Register, policy: RetentionPolicy, at: datetime
) -> tuple[Signer, ...]:
    """Who signed, one person for each side of ``act``, all of them in role and with keys in force at ``at``.

    Raises :class:`NotPermitted`: ``missing_signature`` if there are fewer signatures than sides, ``one_person`` if
    one person signed twice, ``unknown_signer`` or ``revoked_key``, and what
    :meth:`~infra.register.Register.require_role` raises; ``changed`` if a signature does not fit the document.
    """
    sides = policy.sides(act)
    persons = [(key_id, register.signer(key_id, at)) for key_id in signed.key_ids]
    try:
        if persons:
            signed.verify({key_id: _public(register, key_id, person, at) for key_id, person in persons})
    except IntegrityError:
        raise NotPermitted(
            "a signature does not fit the document: one of them was changed", reason_code="changed"
        ) from None
    if len(persons) < len(sides):
        wanted = " and ".join(" or ".join(roles) for roles in sides.values())
        raise NotPermitted(
            f"this needs {len(sides)} signature(s) and has {len(persons)}",
            next_step=f"have it signed by {wanted}",
            reason_code="missing_signature",
        )
    if len({person.person for _, person in persons}) < len(persons):
        raise NotPermitted("one person signed twice; this needs two persons", reason_code="one_person")
    return _assigned(persons, sides, register, at)


def _public(register: Register, key_id: str, person: Person, at: datetime) -> str:
    for key, in_force in register.keys(at):
        if in_force and key.use == "signing" and key.name == key_id:
            return key.public
    return person.signing_public


def _assigned(
    persons: list[tuple[str, Person]],
    sides: Mapping[str, tuple[str, ...]],
    register: Register,
    at: datetime,
) -> tuple[Signer, ...]:
    """Each side with another person; the first refusal if no order of the persons fits."""
    refusal: NotPermitted | None = None
    for chosen in permutations(persons, len(sides)):
        found = []
        try:
            for (side, roles), (key_id, person) in zip(sides.items(), chosen, strict=True):
                found.append(
                    Signer(person.person, register.require_role(person.person, roles, at), side, key_id)
                )
        except NotPermitted as error:
            refusal = refusal or error
            continue
        if len(persons) > len(sides):
            raise NotPermitted("this has more signatures than it needs", reason_code="too_many_signatures")
        return tuple(found)
    assert refusal is not None, "there is a chosen person for each side"
    raise refusal
