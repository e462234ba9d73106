"""A landing share: one officer's half of the key of one landed delivery, and of which delivery and key it is.

The officer's own machine opens what lies under the name of a share and passes the half on. So what is sealed says what
it is: another file under that name, the shares of a vault or of another delivery, is refused before anything of it
leaves the machine.
"""

from __future__ import annotations

from infra.sealing import SecretBytes, unseal
from infra.signing import canonical_json, parse_canonical
from schemas.errors import IntegrityError

KIND = "landing-share"


def _heading(delivery_id: str, share: str, recipient: str) -> dict[str, object]:
    return {
        "v": 1,
        "kind": KIND,
        "delivery_id": delivery_id,
        "share_of": share,
        "landing_recipient": recipient,
    }


def write_share(delivery_id: str, share: str, recipient: str, half: bytes) -> bytes:
    """What is sealed to the holders of ``share`` (guardian, siro). ``recipient``: the public half of the key."""
    return canonical_json({**_heading(delivery_id, share, recipient), "half": half.hex()})


def read_share(content: bytes, delivery_id: str, share: str, recipient: str) -> SecretBytes:
    """The half in what was sealed. Raises :class:`IntegrityError` if it is of another delivery, office or key, or no
    landing share at all; the message says nothing of what it is."""
    found = parse_canonical(content)
    expected = _heading(delivery_id, share, recipient)
    wrong = IntegrityError(
        f"the share of {delivery_id} for the {share} is not the one that was written when it was landed",
        next_step="find out who can write to the landing zone; restore the share from its backup",
    )
    if not isinstance(found, dict) or set(found) != {*expected, "half"}:
        raise wrong
    if any(found[name] != value for name, value in expected.items()):
        raise wrong
    try:
        return SecretBytes(bytes.fromhex(found["half"]))
    except (TypeError, ValueError):
        raise wrong from None


def open_share(sealed: bytes, identity: str, delivery_id: str, share: str, recipient: str) -> SecretBytes:
    """:func:`read_share` of a sealed file. Raises :class:`CannotOpen` for another person's key as well."""
    return read_share(unseal(sealed, identity), delivery_id, share, recipient)
