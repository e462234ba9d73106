"""A code list: the values a coded field may hold, each with a label, and whether it says "nothing" or
"wrong".

``schemas/codes/<name>.yaml`` holds one list. ``state`` marks codes that are no statement about the patient:
``null`` (submitted without a value), ``invalid`` (submitted and found wrong by the supplier) and
``not_stated`` (asked and not answered, not known). ``from`` and ``to`` are financial years as HES writes them
(``2013-14``). Everything is text: ``01`` is not ``1`` and ``NO`` is not false.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.contract import Strict
from schemas.errors import ContractDefinitionError
from schemas.yaml_text import parse_model, read_yaml

CODE_FOLDER = Path(__file__).parent / "codes"
CodeState = Literal["null", "invalid", "not_stated"]


class Code(Strict):
    """One value. ``first_year`` and ``last_year`` bound the financial years in which it was collected."""

    code: str = Field(min_length=1)
    label: str = Field(min_length=1)
    state: CodeState | None = None
    first_year: str | None = Field(default=None, alias="from", pattern=r"^\d{4}-\d{2}$")
    last_year: str | None = Field(default=None, alias="to", pattern=r"^\d{4}-\d{2}$")


class CodeList(Strict):
    """All values of one coded field, in the order of the file."""

    name: str
    title: str
    source: str = Field(min_length=1)
    codes: tuple[Code, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_code_twice(self) -> Self:
        seen: set[str] = set()
        for entry in self.codes:
            if entry.code in seen:
                raise ValueError(f"the code {entry.code!r} is listed twice")
            seen.add(entry.code)
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """Every code, those with a state included."""
        return tuple(entry.code for entry in self.codes)

    @property
    def labels(self) -> dict[str, str]:
        return {entry.code: entry.label for entry in self.codes}

    def with_state(self, state: CodeState) -> tuple[str, ...]:
        """The codes that mean ``null``, ``invalid`` or ``not_stated``."""
        return tuple(entry.code for entry in self.codes if entry.state == state)


def load_code_folder(folder: Path) -> dict[str, CodeList]:
    """Every list of ``folder`` by name. Raises :class:`ContractDefinitionError` when one does not load."""
    lists: dict[str, CodeList] = {}
    for path in sorted(folder.glob("*.yaml")):
        found = parse_model(CodeList, read_yaml(path), path.name)
        if found.name != path.stem:
            raise ContractDefinitionError(
                f"{path.name}: the list calls itself {found.name!r}, not {path.stem!r}"
            )
        lists[found.name] = found
    return lists


@cache
def code_lists() -> dict[str, CodeList]:
    """The code lists of the project by name; read once."""
    return load_code_folder(CODE_FOLDER)


def code_list(name: str) -> CodeList:
    """The list called ``name``. Raises :class:`ContractDefinitionError` when there is none."""
    lists = code_lists()
    if name not in lists:
        raise ContractDefinitionError(f"there is no code list {name!r} in schemas/codes")
    return lists[name]
