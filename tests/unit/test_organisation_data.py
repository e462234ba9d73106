"""The official files of organisations make the provider reference: days, chains, sites, and what is left out."""

from __future__ import annotations

from datetime import date

import pytest

from schemas.errors import ContractDefinitionError
from schemas.organisation_data import (
    ORGANISATION_FIELDS,
    OrganisationData,
    Source,
    from_organisation_data,
    parse_types,
)


def row(code: str, name: str, opened: str, closed: str = "", parent: str = "") -> str:
    """A line of etr.csv, or with ``parent`` of ets.csv."""
    cells = [code, name, "Y54", "QF7", *["street"] * 5, "postcode", opened, closed, "", "", parent]
    return ",".join(f'"{cell}"' for cell in [*cells, *[""] * (ORGANISATION_FIELDS - len(cells))])


TRUSTS = "\n".join(
    [
        row("RAA", "FIRST TRUST", "20010401", "20190930"),
        row("RBB", "SECOND TRUST", "19910401", "20210331"),
        row("RCC", "THIRD TRUST", "20210401"),
        row("RDD", "HEART HOSPITAL, THE", "19910401"),
    ]
)
SITES = "\n".join(
    [
        row("RAA02", "WEST WING", "20010401", parent="RAA"),
        row("RAA01", "EAST WING", "20010401", parent="RAA"),
        row("RZZ01", "ELSEWHERE", "20010401", parent="RZZ"),
    ]
)
SUCCESSIONS = (
    '"RAA","RBB","R","20191001","F"\n"RBB","RCC","R","20210401",""\n"A81001","A81002","R","20150401",""\n'
)
TYPES = {"RAA": "acute", "RBB": "acute", "RCC": "acute", "RDD": "acute specialist"}


def made(
    trusts: str = TRUSTS, sites: str = "", successions: str = "", types: dict[str, str] | None = None
) -> OrganisationData:
    return from_organisation_data(
        [Source("etr.csv", trusts)],
        [Source("ets.csv", sites)],
        [Source("succ.csv", successions)],
        TYPES if types is None else types,
    )


def stands_for(found: OrganisationData, code: str, day: str) -> str:
    provider = found.reference.resolve(code, date.fromisoformat(day))
    assert provider is not None, f"{code} is not listed"
    return provider.code


def test_the_files_give_codes_names_days_types_and_sites_and_no_address() -> None:
    found = made(sites=SITES, types={"RDD": "acute specialist"})
    providers = found.reference.providers
    assert [(each.code, each.name, each.type, each.valid_from, each.valid_to) for each in providers] == [
        ("RAA", "FIRST TRUST", "other", date(2001, 4, 1), date(2019, 9, 30)),
        ("RBB", "SECOND TRUST", "other", date(1991, 4, 1), date(2021, 3, 31)),
        ("RCC", "THIRD TRUST", "other", date(2021, 4, 1), None),
        ("RDD", "HEART HOSPITAL, THE", "acute specialist", date(1991, 4, 1), None),
    ]  # fmt: skip
    assert found.reference.sites().rows() == [("RAA01", "RAA"), ("RAA02", "RAA")]
    assert "street" not in repr(found), "addresses are not kept"
    assert (found.counts["sites"], found.counts["sites_elsewhere"], found.counts["without_type"]) == (2, 1, 3)


def test_a_chain_of_successions_is_followed_and_each_counts_from_its_day() -> None:
    found = made(successions=SUCCESSIONS)
    days = ("2019-09-30", "2019-10-01", "2021-03-31", "2021-04-01")
    assert [stands_for(found, "RAA", day) for day in days] == ["RAA", "RBB", "RBB", "RCC"]
    assert (found.counts["successions"], found.counts["successions_elsewhere"]) == (2, 1)
    assert found.counts["closing_days_replaced"] == 0


def test_the_day_of_the_succession_counts_whatever_the_record_says_of_the_closing() -> None:
    for closed in ("20200331", "20190630", ""):
        trusts = TRUSTS.replace("20190930", closed)
        found = made(trusts, successions=SUCCESSIONS)
        assert (stands_for(found, "RAA", "2019-09-30"), stands_for(found, "RAA", "2019-10-01")) == (
            "RAA",
            "RBB",
        )
        assert found.counts["closing_days_replaced"] == bool(closed)


def test_two_trusts_may_become_one() -> None:
    found = made(successions="RAA,RCC,R,20210401,\nRBB,RCC,R,20210401,\n")
    assert [stands_for(found, code, "2021-04-01") for code in ("RAA", "RBB")] == ["RCC", "RCC"]


def test_a_trust_that_was_divided_goes_on_standing_for_itself() -> None:
    found = made(successions="RAA,RBB,R,20191001,\nRAA,RCC,R,20191001,\n")
    assert found.divided == ("RAA",)
    assert stands_for(found, "RAA", "2022-01-01") == "RAA"


def test_the_same_succession_twice_counts_from_its_first_day() -> None:
    found = made(successions="RAA,RBB,R,20191001,\nRAA,RBB,R,20180401,\n")
    assert (found.divided, stands_for(found, "RAA", "2018-04-01")) == ((), "RBB")


def test_what_is_made_can_be_written_and_read_again() -> None:
    from schemas.provider_reference import parse_reference

    reference = made(sites=SITES, successions=SUCCESSIONS).reference
    assert parse_reference(reference.to_csv(), "providers.csv") == reference


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"trusts": "RAA,FIRST,20010401"}, "etr.csv: line 1 has 3 fields, 27 were expected"),
        ({"sites": "RAA01,RAA"}, "ets.csv: line 1 has 2 fields, 27 were expected"),
        ({"successions": "RAA,RBB,R,20191001"}, "succ.csv: line 1 has 4 fields, 5 were expected"),
        ({"successions": "RAA,RBB,R,SECRET,"}, "succ.csv: line 1: the day of the succession"),
        ({"successions": "RAA,RBB,R,,"}, "succ.csv: line 1: the day of the succession"),
        ({"successions": "RAA,RBB,R,00010101,"}, "succ.csv: line 1: the day of the succession"),
        ({"successions": "RAA,RAA,R,20191001,"}, "succ.csv: line 1: a code succeeds itself"),
        ({"successions": "RAA,RBB,R,20191001,\nRBB,RAA,R,20210401,"}, "successors run in a circle"),
        ({"successions": "RAA,RBB,R,19991001,"}, "etr.csv: line 1"),
        ({"trusts": TRUSTS + "\n" + row("RAA", "AGAIN", "20010401")}, "a code is listed twice"),
        ({"trusts": TRUSTS.replace("20010401", "2001SECR")}, "etr.csv: line 1: valid_from"),
        ({"types": {"RAA": "SECRET"}}, "etr.csv: line 1: type"),
        (
            {"sites": SITES + "\n" + row("RAA01", "AGAIN", "20010401", parent="RBB")},
            "a site is listed at two",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_not_shown(files: dict[str, object], says: str) -> None:
    with pytest.raises(ContractDefinitionError, match=says) as refused:
        made(**files)  # type: ignore[arg-type]
    assert "SECR" not in str(refused.value)


def test_types_are_a_small_file_of_their_own() -> None:
    assert parse_types(Source("types.csv", "code,type\nRAA,acute\n\nRDD,acute specialist\n")) == {
        "RAA": "acute", "RDD": "acute specialist",
    }  # fmt: skip
    for text in ("", "type,code\nacute,RAA\n", "code,type\nRAA\n", "code,type\nRAA,acute\nRAA,other\n"):
        with pytest.raises(ContractDefinitionError, match=r"types\.csv"):
            parse_types(Source("types.csv", text))
