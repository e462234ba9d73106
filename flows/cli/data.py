"""``wardwatch synth``, ``check`` and ``land``: data on its way in."""

from __future__ import annotations

from pathlib import Path

import typer

from flows.cli.acting import acting_as, starting
from flows.cli.context import context_of, now, print_json, teller
from flows.cli.providers import LOADED_BY
from flows.nightly import PERSON, PURPOSE, ROLE
from infra.checking import check_file
from infra.keyring import Keyring, PublicKeys
from infra.night import Stated, begin
from infra.provider_reference import ACTION, PROVIDERS_FILE, read_reference, save_reference
from infra.receipts import safe_name
from schemas.errors import CriticalRuleBroken, UsageError, WardwatchError


def synth(
    context: typer.Context,
    out: Path = typer.Argument(..., help="Folder for the extracts; truth.json is written beside them."),
    episodes: int = typer.Option(100_000, "--episodes", min=500, help="Episodes of admitted patient care."),
    hospitals: int = typer.Option(24, "--hospitals", min=6, max=400),
    years: int = typer.Option(3, "--years", min=1, max=10, help="Financial years, the last one provisional."),
    seed: int = typer.Option(1, "--seed"),
) -> None:
    """Write encrypted synthetic extracts of all datasets, with planted outliers.

    In a demonstration workspace the organisations of the extracts become its provider reference.
    """
    from infra.synthetic import generate

    workspace = context_of(context).open()
    is_demo = workspace.settings.agreement.demo
    audit = acting_as(workspace, LOADED_BY, ACTION, PROVIDERS_FILE) if is_demo else None
    recipient = PublicKeys.load(workspace.zone("keys")).recipient()
    say, _ = teller()
    say(f"making {episodes:,} episodes of {hospitals} hospitals over {years} financial years (seed {seed})")

    def progress(stage: str, done: int, total: int) -> None:
        say(f"  {stage}: {done:,} of {total:,}")

    truth = generate(
        out,
        episodes=episodes,
        hospitals=hospitals,
        years=years,
        seed=seed,
        recipient=recipient,
        progress=progress,
    )
    say(f"{len(truth['files'])} encrypted files in {out}; what was planted is in {out / 'truth.json'}")
    made = out / "provider_reference.csv"
    if audit is not None:
        save_reference(workspace, read_reference(made), audit)
        say("their organisations are the provider reference of this workspace now")
    else:
        say(
            f"the provider reference of this workspace is as it was, as this is no demonstration; theirs is in {made}"
        )


def check(
    context: typer.Context,
    file: Path = typer.Argument(..., help="The file to judge; nothing is kept."),
    dataset: str = typer.Option(None, "--dataset"),
    period: str = typer.Option(None, "--period", metavar="YYYYnn"),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Judge a file against its contract without landing it. The workspace is only needed for encrypted files."""
    here = context_of(context)
    identities: tuple[str, ...] = ()
    openpgp_keys: tuple[bytes, ...] = ()
    if here.root is not None:
        keyring = Keyring.open(here.open(quiet=True).zone("keys"))
        identities, openpgp_keys = keyring.inbox_identities, keyring.inbox_openpgp_keys
    results = check_file(file, identities, openpgp_keys, dataset=dataset, period=period)
    broken = [result for result in results if result.critical]
    if as_json:
        print_json([result.to_document() for result in results])
    else:
        for result in results:
            print("\n".join(result.lines()))
    if broken:
        raise CriticalRuleBroken(
            f"{sum(len(result.critical) for result in broken)} critical rule(s) broken",
            next_step="a delivery like this would not be taken",
        )


def land(
    context: typer.Context,
    files: list[Path] = typer.Argument(..., help="Files as the sender gave them."),
    dataset: str = typer.Option(None, "--dataset"),
    period: str = typer.Option(None, "--period", metavar="YYYYnn"),
    sender: str = typer.Option(None, "--sender"),
    agreement: str = typer.Option(None, "--agreement", metavar="REF"),
    replaces: str = typer.Option(None, "--replaces", metavar="SHA256", help="Content that this re-delivers."),
    reason: str = typer.Option(None, "--reason", metavar="TEXT", help="Why it is delivered again."),
) -> None:
    """Take files into the landing zone, each under its own key, with a signed receipt. The files stay."""
    workspace = context_of(context).open()
    starting(workspace, "land")
    say, progress = teller()
    stated = Stated(dataset, period, sender, agreement, replaces, reason)
    failures: list[tuple[str, WardwatchError]] = []
    with begin(
        workspace, purpose=PURPOSE, person=PERSON, role=ROLE, clock=now, say=say, progress=progress
    ) as night:
        for path in files:
            if not path.is_file():
                raise UsageError(f"there is no file {safe_name(path.name)} at the path that was given")
            try:
                night.land_file(path, stated)
            except WardwatchError as error:
                if len(files) == 1:
                    raise
                failures.append((safe_name(path.name), error))
    for name, failure in failures:
        say(f"{name}: {failure}")
    if failures:
        raise typer.Exit(failures[0][1].exit_code)
    say("next: wardwatch nightly")


def register(app: typer.Typer) -> None:
    app.command("synth")(synth)
    app.command("check")(check)
    app.command("land")(land)
