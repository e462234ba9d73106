"""Released: the shares that an approval carries, sealed to the key of one request and bound to its exact bytes.

What is inside differs (keys of a hospital's numbers, halves of landing keys); how it is bound does not.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from infra.review.documents import Approval, Asked, Signed, sign, stamp, write
from infra.sealing import seal, unseal
from infra.signing import SigningKey, canonical_json, parse_canonical
from schemas.errors import CannotOpen, IntegrityError
from schemas.review_policy import Side

DELIVERIES = "deliveries"


def release(
    request: Signed[Asked],
    binding: Mapping[str, str],
    deliveries: Mapping[str, Any],
    *,
    side: Side,
    person: str,
    role: str,
    signing_key: SigningKey,
    now: datetime,
) -> Signed[Approval]:
    """The signed approval of ``request`` that carries ``deliveries`` (name -> shares), bound by ``binding``."""
    asked = request.document
    document = {**_bound(request, binding, side), DELIVERIES: dict(deliveries)}
    return sign(
        write(
            Approval,
            case=asked.case,
            request_sha256=request.sha256,
            side=side,
            person=person,
            role=role,
            decided_at=stamp(now),
            shares=base64.b64encode(seal(canonical_json(document), asked.review_recipient)).decode(),
        ),
        signing_key,
    )


def carried(
    approval: Signed[Approval], request: Signed[Asked], binding: Mapping[str, str], identity: str
) -> dict[str, Any]:
    """The deliveries that an approval carries, opened with the private half of the request's key.

    Raises :class:`CannotOpen` for another key, :class:`IntegrityError` for shares of another request, side or kind.
    """
    try:
        sealed = base64.b64decode(approval.document.shares, validate=True)
    except binascii.Error:
        raise CannotOpen("the shares of an approval are not readable") from None
    document: Any = parse_canonical(unseal(sealed, identity))
    expected = _bound(request, binding, approval.document.side)
    if not isinstance(document, dict) or set(document) != {*expected, DELIVERIES}:
        raise IntegrityError("the shares of an approval are not those of a request")
    if any(document[name] != value for name, value in expected.items()):
        raise IntegrityError("the shares of an approval are those of another request")
    deliveries = document[DELIVERIES]
    if not isinstance(deliveries, dict):
        raise IntegrityError("the shares of an approval are not shares")
    return deliveries


def _bound(request: Signed[Asked], binding: Mapping[str, str], side: Side) -> dict[str, Any]:
    return {"v": 1, "request_sha256": request.sha256, "side": side, **binding}
