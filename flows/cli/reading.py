"""``wardwatch query``, ``funnel`` and ``indicators``: reading what is there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import polars as pl
import typer

from flows.cli.acting import acting_as, staff_for
from flows.cli.context import context_of, now, print_json
from infra import publish
from infra.audit import AuditLog
from infra.compute import load_indicators
from infra.curated_query import CuratedView, query_published
from infra.funnel_file import read_funnel_file, render_csv
from infra.keyring import Keyring
from infra.lake import curated_view, reading
from infra.purposes import load_policy, require_purpose
from infra.query_lockout import QUERY, ask_curated
from infra.review.audited import REFUSALS, reason_of
from infra.workspace import Workspace
from schemas.errors import UsageError, WardwatchError, WorkspaceError
from transforms.funnel import standardised_ratio
from transforms.identifiers import EMAIL, NHS_NUMBER, POSTCODE, scan_text

ANALYST = "intelligence_analyst"
DEFAULT_PURPOSE = "indicator_review"
READ = "published.read"


def query(
    context: typer.Context,
    sql: str = typer.Argument(...),
    zone: str = typer.Option("published", "--zone", help="published or curated"),
    purpose: str = typer.Option(
        "", "--purpose", metavar="CODE", help="From the closed list; required for curated."
    ),
    form: str = typer.Option("table", "--format", help="table, csv or json"),
) -> None:
    """Ask the published tables, or (aggregates only, audited) the curated zone."""
    workspace = context_of(context).open(quiet=form != "table")
    if zone == "published":
        frame = _published(workspace, sql, purpose)
    elif zone == "curated":
        if not purpose:
            raise UsageError("a query of the curated zone needs a purpose", next_step="give --purpose CODE")
        frame = _curated(workspace, sql, purpose)
    else:
        raise UsageError("--zone is published or curated")
    _show(frame, form)


def _asking(workspace: Workspace, action: str, object: str, purpose: str) -> AuditLog:
    """The audit log in the name of who asks, in a role to which ``purpose`` opens ``action``.

    A purpose that opens it to nobody is looked at later, when it is known who is asking.
    """
    roles = staff_for(action, purpose) or staff_for(action)
    return acting_as(workspace, roles, action, object, unnamed=ANALYST)


def _published(workspace: Workspace, sql: str, purpose: str) -> pl.DataFrame:
    """The internal results hold exact numbers, so every question to them has one line in the audit log, durable
    before an answer is shown."""
    folder = publish.current(workspace.zone("published"))
    run = folder.name if folder is not None else "published"
    audit = _asking(workspace, READ, run, purpose)
    purpose = purpose or _purpose_of(audit.role)
    # The digest of an identifier must not be written down.
    nameless = not {NHS_NUMBER, POSTCODE, EMAIL}.intersection(scan_text(sql))
    digests = {"query": hashlib.sha256(sql.encode("utf-8", "replace")).hexdigest()} if nameless else {}
    try:
        require_purpose(purpose, audit.role, READ, now().date())
        if folder is None:
            raise WorkspaceError("nothing has been published yet", next_step="run `wardwatch nightly`")
        frame = query_published(folder / publish.DATABASE, sql)
    except WardwatchError as error:
        decision: Literal["refuse", "fail"] = "refuse" if isinstance(error, REFUSALS) else "fail"
        # The purpose may be anything somebody typed.
        audit.record(READ, run, purpose="", decision=decision, reason_code=reason_of(error), digests=digests)
        raise
    audit.record(
        READ, run, purpose=purpose, reason_code="answered", counts={"rows": frame.height}, digests=digests
    )
    return frame


def _purpose_of(role: str) -> str:
    """The purpose for which ``role`` reads the internal results if none is stated."""
    codes = (DEFAULT_PURPOSE, *(purpose.code for purpose in load_policy().purposes))
    return next(code for code in codes if role in staff_for(READ, code))


def _curated(workspace: Workspace, sql: str, purpose: str) -> pl.DataFrame:
    audit = _asking(workspace, QUERY, "lake", purpose)
    keyring = Keyring.open(workspace.zone("keys"))
    with reading(
        workspace.zone("lake"),
        keyring.lake_metadata_key,
        memory_limit=workspace.settings.memory_limit,
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        views = [
            CuratedView(name, columns, "person_token" if has_person else None)
            for name, columns, has_person in curated_view(connection)
        ]
        answer = ask_curated(
            connection,
            sql,
            views,
            purpose=purpose,
            audit=audit,
            incidents=workspace.zone("incidents"),
            now=now(),
        )
    if answer.groups_withheld:
        typer.echo(f"{answer.groups_withheld} group(s) too small to show were left out", err=True)
    return answer.frame


def _show(frame: pl.DataFrame, form: str) -> None:
    if form == "csv":
        typer.echo(frame.write_csv(), nl=False)
    elif form == "json":
        print_json(frame.to_dicts())
    elif form == "table":
        with pl.Config(
            tbl_rows=200,
            tbl_cols=40,
            fmt_str_lengths=80,
            tbl_hide_column_data_types=True,
            tbl_width_chars=200,
        ):
            typer.echo(str(frame))
    else:
        raise UsageError("--format is table, csv or json")


def funnel(
    file: Path = typer.Argument(..., help="A CSV file with one row per group."),
    observed: str = typer.Option(..., "--observed", metavar="COL"),
    expected: str = typer.Option(..., "--expected", metavar="COL"),
    group: str = typer.Option(None, "--group", metavar="COL"),
    method: str = typer.Option("shmi", "--method", help="shmi or cqc"),
    form: str = typer.Option("csv", "--format", help="csv"),
) -> None:
    """Over-dispersed funnel limits of any file with observed and expected numbers."""
    if form != "csv":
        raise UsageError("--format is csv")
    wanted: Literal["shmi", "cqc"]
    if method == "shmi":
        wanted = "shmi"
    elif method == "cqc":
        wanted = "cqc"
    else:
        raise UsageError("--method is shmi or cqc")
    frame = read_funnel_file(file, observed, expected, group)
    limits = standardised_ratio(frame["observed"].to_numpy(), frame["expected"].to_numpy(), wanted)
    typer.echo(render_csv(frame["group"].to_list(), limits), nl=False)


def indicators(as_json: bool = typer.Option(False, "--json")) -> None:
    """List the indicators and say what each one is, and is not."""
    found = [indicator.metadata for indicator in load_indicators()]
    if as_json:
        print_json([metadata.model_dump(mode="json") for metadata in found])
        return
    for metadata in found:
        print(f"{metadata.id}: {metadata.friendly_name} ({metadata.status})")
        print(f"  {metadata.description}")
        print(f"  {metadata.what_it_is_not}")
        print(f"  numerator: {metadata.numerator}")
        print(f"  denominator: {metadata.denominator}; excluded: {'; '.join(metadata.exclusions)}")


def register(app: typer.Typer) -> None:
    app.command("query")(query)
    app.command("funnel")(funnel)
    app.command("indicators")(indicators)
