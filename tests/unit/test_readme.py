"""The README says what is true: its exit codes are those of the code, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from flows.cli.application import INTERRUPTED, app
from flows.steps import InternalError
from schemas import errors

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def exit_codes_of_the_code() -> set[int]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    found = {kind.exit_code for kind in kinds if issubclass(kind, errors.WardwatchError)}
    return found | {0, INTERRUPTED, InternalError.exit_code}


def exit_codes_of_the_readme() -> set[int]:
    table = README.split("## Exit codes", 1)[1].split("##", 1)[0]
    cells = re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE)
    return {int(code) for cell in cells for code in cell.split(",")}


def test_every_exit_code_is_in_the_readme_and_no_other() -> None:
    assert exit_codes_of_the_readme() == exit_codes_of_the_code()


def test_every_typed_error_has_a_code_of_its_own() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = [kind.code for kind in kinds if issubclass(kind, errors.WardwatchError)]
    assert len(codes) == len(set(codes)), "two errors share a code"


def test_every_command_of_the_readme_exists_and_every_command_is_in_it() -> None:
    group = typer.main.get_command(app)
    commands = set(group.commands)  # type: ignore[attr-defined]
    table = README.split("| command | does |", 1)[1].split("\n\n", 1)[0]
    named = {word.split()[0] for words in re.findall(r"`([a-z -]+)`", table) for word in [words]}
    assert named == commands
