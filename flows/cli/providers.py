"""``wardwatch providers``: which organisations there are, of what kind, and which took over from which."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import polars as pl
import typer

from flows.cli.acting import acting_as
from flows.cli.context import context_of, now, print_json
from infra.provider_reference import (
    ACTION,
    PROVIDERS_FILE,
    read_organisation_data,
    read_reference,
    save_reference,
    workspace_reference,
)
from infra.workspace import Workspace
from schemas.errors import ContractDefinitionError, UsageError, WardwatchError
from schemas.organisation_data import OrganisationData
from schemas.provider_reference import ProviderReference

providers_app = typer.Typer(
    help="Which organisations are compared, and which took over from which.", no_args_is_help=True
)

LOADED_BY = ("data_engineer", "iam", "iao")
COVERED = "acute"
WORDS = {
    "organisations": "organisations",
    "sites": "sites of theirs",
    "sites_elsewhere": "sites of organisations that are not listed, left out",
    "successions": "codes that another has taken over",
    "successions_elsewhere": "successions of organisations that are not listed, left out",
    "closing_days_replaced": "closing days that are not the day before the succession, which counts",
    "divided": "codes with several successors, which go on standing for themselves",
    "types_elsewhere": "types of organisations that are not listed, left out",
    "without_type": "organisations without a type, taken for `other`",
}


@providers_app.command("load")
def load(
    context: typer.Context,
    organisations: list[Path] = typer.Option(
        None, "--organisations", metavar="FILE", help="etr.csv and its kind; may be repeated."
    ),
    sites: list[Path] = typer.Option(
        None, "--sites", metavar="FILE", help="ets.csv and its kind; may be repeated."
    ),
    successors: list[Path] = typer.Option(
        None, "--successors", metavar="FILE", help="succ.csv and succarc.csv; may be repeated."
    ),
    types: Path = typer.Option(
        None, "--types", metavar="FILE", help="A CSV with code,type; others keep the type that they had."
    ),
    reference: Path = typer.Option(
        None,
        "--reference",
        metavar="FILE",
        help="Instead of the official files: one in the form of providers.csv.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be loaded and change nothing."),
) -> None:
    """Make the files of the Organisation Data Service, or one prepared file, the provider reference in force."""
    workspace = context_of(context).open()
    if bool(organisations) == (reference is not None) or (
        reference is not None and (sites or successors or types)
    ):
        raise UsageError(
            "the reference comes from official files or from a prepared one",
            next_step="give --organisations with --sites, --successors and --types, or --reference alone",
        )
    given = [*(organisations or ()), *(sites or ()), *(successors or ()), types, reference]
    if any(path is not None and not path.is_file() for path in given):
        raise UsageError("there is no file at one of the paths that were given")
    audit = acting_as(workspace, LOADED_BY, ACTION, PROVIDERS_FILE)
    before = _before(workspace)
    try:
        if reference is not None:
            read = read_reference(reference)
            found = OrganisationData(read, _counted(read))
        else:
            found = read_organisation_data(organisations, sites or (), successors or (), types, before)
        if COVERED not in _types(found.reference):
            raise UsageError(
                "no organisation has the type acute, so no mortality indicator would cover anybody",
                next_step="give --types FILE, a CSV with the header code,type",
            )
    except WardwatchError as refusal:
        audit.record(ACTION, PROVIDERS_FILE, purpose="", decision="refuse", reason_code=refusal.code)
        raise
    _tell(found, before)
    if dry_run:
        print("nothing was changed")
    elif save_reference(workspace, found.reference, audit, dict(found.counts)):
        print("in force from the next night on; `wardwatch nightly` computes everything again with it")
    else:
        print("this is the reference that is in force already")


@providers_app.command("show")
def show(
    context: typer.Context,
    on: str = typer.Option(
        "", "--on", metavar="DATE", help="The day whose successions count; today if not given."
    ),
    as_json: bool = typer.Option(False, "--json", help="Every organisation, for a machine."),
) -> None:
    """The provider reference in force: how many of each type, and which codes stand for others."""
    workspace = context_of(context).open(quiet=as_json)
    day = _day(on) if on else now().date()
    found = workspace_reference(workspace.root)
    if as_json:
        print_json(found.resolved(day).to_dicts() if found is not None else [])
        return
    if found is None:
        print("no provider reference: every provider is taken for an acute trust that is not specialist")
        return
    print(f"{len(found.providers):,} organisations: " + _listed(_types(found)))
    names = {provider.code: provider.name for provider in found.providers}
    for old, new, since in found.successions().iter_rows():
        print(f"  {old} -> {new} from {since.isoformat()}  {names[old]} -> {names[new]}")
    moved = found.resolved(day).filter(pl.col("code") != pl.col("resolved_code"))
    print(f"on {day.isoformat()} {moved.height:,} code(s) stand for another")


def _before(workspace: Workspace) -> ProviderReference | None:
    """The reference up to now; one that cannot be read is about to be replaced."""
    try:
        return workspace_reference(workspace.root)
    except ContractDefinitionError:
        return None


def _counted(reference: ProviderReference) -> dict[str, int]:
    return {
        "organisations": len(reference.providers),
        "sites": reference.sites().height,
        "successions": reference.successions().height,
    }


def _types(reference: ProviderReference) -> Counter[str]:
    return Counter(provider.type for provider in reference.providers)


def _listed(types: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(types.items()))


def _tell(found: OrganisationData, before: ProviderReference | None) -> None:
    for name, words in WORDS.items():
        if found.counts.get(name) or name == "organisations":
            print(f"{found.counts[name]:>8,} {words}")
    print("types: " + _listed(_types(found.reference)))
    if found.divided:
        print("several successors: " + ", ".join(found.divided))
    lost = _uncovered(found.reference)
    if lost:
        print("acute, but what stands for them is not, so mortality does not cover them: " + ", ".join(lost))
    if before is not None:
        old, new = (set(reference.to_csv().splitlines()) for reference in (before, found.reference))
        print(
            f"{len(new - old):,} entries are new or changed, {len(old - new):,} of those before are not there so"
        )


def _uncovered(reference: ProviderReference) -> list[str]:
    """Acute codes that an organisation of another type stands for in the end."""
    kinds = {provider.code: provider.type for provider in reference.providers}
    last = reference.resolved(date.max).filter(pl.col("type") != COVERED)["code"]
    return [code for code in last if kinds[code] == COVERED]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError("--on is a day such as 2024-04-01") from None


def register(app: typer.Typer) -> None:
    app.add_typer(providers_app, name="providers")
