"""The answer to a request: what is held and why, out of metadata alone.

There is no other source it could be made from: no function here or elsewhere leads from a person or an identifier to
a record (``infra/decisions/0170``). What an answer of each kind says besides is data
(``schemas/policy/requests.yaml``).
"""

from __future__ import annotations

from datetime import date
from textwrap import fill

from infra.public_register import Holdings, long_day, period_words
from infra.requests.register import Request
from schemas.request_policy import request_policy

_WIDTH = 100


def answer_text(request: Request, held: Holdings, today: date) -> str:
    """The answer as plain text, to be put into a letter. It names the team's reference, and nobody."""
    kind = request_policy().kind(request.kind)
    paragraphs = [
        f"{kind.title}, reference {request.reference}, received {long_day(request.received)}",
        f"Answered {long_day(today)}. Law: {kind.law}.",
        "This answer is made from the signed records of what was received and done. It says what is held, from whom, "
        "for what, and for how long; it is the same for everybody who asks.",
        f"Agreement: {held.agreement.reference}, {held.agreement.title}, in force from {held.agreement.starts} to "
        f"{held.agreement.ends}.",
        "What is held:" if held.datasets else "What is held: nothing.",
    ]
    for one in held.datasets:
        first, last = (period_words(period) for period in one.periods)
        covers = first if first == last else f"{first} to {last}"
        paragraphs.append(
            f"- {one.title}: {one.deliveries} deliver{'y' if one.deliveries == 1 else 'ies'}, "
            f"covering {covers}; kept until "
            f"{long_day(one.retain_until)} at the latest. Sealed items: {', '.join(one.items) or 'none'}."
        )
    paragraphs.append("What it is used for, and on which basis:")
    paragraphs += [f"- {purpose.title}. {purpose.legal_basis}." for purpose in held.purposes]
    issued = sum(year.issued for year in held.case_lists)
    paragraphs.append(
        "Who receives anything: the public, figures in which small numbers are hidden; and, in exceptional "
        f"circumstances, a hospital its own hospital numbers ({issued} list{'' if issued == 1 else 's'} so far, to all "
        "hospitals together). Nothing else leaves."
    )
    paragraphs += kind.answer
    paragraphs.append("You may complain to the regulator, and to the Information Commissioner's Office.")
    return (
        "\n\n".join(
            fill(part, _WIDTH, subsequent_indent="  " if part.startswith("-") else "") for part in paragraphs
        )
        + "\n"
    )


def record_title(request: Request) -> str:
    """The name part of the record that holds the answer."""
    return f"Request {request.id.rpartition('-')[2]} answer"
