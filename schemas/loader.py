"""The contracts as loaded: YAML text to strict, cross-checked declarations, and a delivered header to its
contract.

A file in ``schemas/contracts/`` is written for people, so it may say things once:

* ``extends: hes_apc_1997``: start from another file; its top-level keys are replaced by name, its fields
  merged by field name (a child says only what differs), its rules and derivations merged by id and name.
  ``remove: [NAME, ...]`` takes fields away, and ``remove_rules`` rules. A file whose name starts with ``_``
  is only there to be extended.
* ``type_defaults`` gives keys to every field of a type (date formats and sentinels, say); an ``extends``
  keeps the parent's, type by type.
* an entry of ``fields`` with ``group: Title`` gives its other keys to all ``fields`` inside it.
* ``repeat: DIAG_{nn}`` with ``count: 20`` stands for DIAG_01 to DIAG_20, ``{n}`` for 1, 2, 3 ...;
  ``first`` is 1 unless it says otherwise.
* ``checks: [icd10_shape, null_rate=0.05, "between(=10,=49)"]`` on a field stands for a warning rule each,
  called ``<DATASET>.<FIELD>.<check>``: literals in brackets, then the tolerated share of rows after the
  ``=``. These rules are in ``Contract.rules`` of the loaded contract; nobody needs to expand ``checks``
  again.
* a typed field gets its ``typed`` rule, and a coded one its ``one_of_codes`` rule, without being asked.
* a field with ``codes`` gets the codes of that list that carry a ``state`` as its sentinels.

Anything unknown, unclassified, repeated or dangling is a :class:`ContractDefinitionError` that names the
file.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from schemas.check_names import CHECKS, DERIVATIONS
from schemas.code_lists import CodeList, CodeState, code_lists
from schemas.contract import (
    CONTRACT_FOLDER,
    Contract,
    ContractField,
    Derivation,
    FieldClass,
    Rule,
    Strict,
)
from schemas.errors import ContractDefinitionError, DeliveryRefused
from schemas.yaml_text import parse_model, read_yaml

FORBIDDEN_COLUMNS = Path(__file__).parent / "policy" / "forbidden_columns.yaml"
# A delivered name that may be shown. Names of columns have a year or a number in them; five digits, or the shape of
# a postcode, may be a value that slipped into the header.
SAFE_NAME = re.compile(
    r"^(?!(?:[^0-9]*[0-9]){5})(?![A-Z]{1,2}[0-9][A-Z0-9]?[0-9][A-Z]{2}$)[A-Za-z][A-Za-z0-9_]{1,39}$"
)
REPEAT_MARK = re.compile(r"\{(n|nn)\}")
FIELD_CHECK = re.compile(r"^(\w+)(?:\((=[^,()]+(?:,\s*=[^,()]+)*)\))?(?:=([0-9.]+))?$")
STATES: tuple[tuple[CodeState, str], ...] = (
    ("null", "null_values"),
    ("invalid", "invalid_values"),
    ("not_stated", "not_stated_values"),
)
TYPED = ("date", "time", "integer", "decimal")
ISSUER = "ISSUER"  # in a derivation: the first filled column of the contract's `issuer`

# What a shorthand check tolerates when it does not say, and the sentence of the rule it stands for. The
# shares are starting points from the two artificial extracts, not clinical standards; they only ever raise a
# warning.
FIELD_CHECK_DEFAULTS: dict[str, tuple[float, str]] = {
    "not_null": (0.0, "{field} is filled"),
    "typed": (0.0, "{field} can be read as a {type}"),
    "one_of_codes": (0.0, "{field} holds a listed code"),
    "max_length": (0.0, "{field} is not longer than declared"),
    "null_rate": (0.05, "few rows have no {field}"),
    "invalid_rate": (0.02, "few rows have a {field} that the supplier found invalid"),
    "not_stated_rate": (0.10, "few rows have a {field} that was asked and not answered"),
    "within_period": (0.05, "{field} lies in the financial year of the delivery"),
    "icd10_shape": (0.001, "{field} is shaped like an ICD-10 code"),
    "opcs4_shape": (0.001, "{field} is shaped like an OPCS-4 code"),
    "nhs_number": (0.01, "{field} passes the NHS number check digit"),
    "postcode_shape": (0.01, "{field} is shaped like a postcode"),
    "unique": (0.0, "no {field} comes twice"),
    "between": (0.001, "{field} lies between {literals}"),
}


# Reading the files ------------------------------------------------------------------------------------


def _entries(raw: object, what: str, where: str) -> list[dict[str, Any]]:
    if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
        raise ContractDefinitionError(f"{where}: `{what}` must be a list of mappings")
    return raw


def _expand_fields(raw: object, where: str) -> list[dict[str, Any]]:
    """Groups and repeats written out: one mapping per field, in the order of the file."""
    expanded: list[dict[str, Any]] = []
    for entry in _entries(raw, "fields", where):
        if "group" in entry:
            if "fields" not in entry:
                raise ContractDefinitionError(f"{where}: the group {entry['group']!r} has no fields")
            shared = {key: value for key, value in entry.items() if key not in ("group", "fields")}
            for inner in _entries(entry["fields"], "fields", where):
                if "group" in inner:
                    raise ContractDefinitionError(f"{where}: a group inside the group {entry['group']!r}")
                expanded.extend(_expand_repeat({**shared, **inner}, where))
        else:
            expanded.extend(_expand_repeat(entry, where))
    names = [field.get("name") for field in expanded]
    for field in expanded:
        name = field.get("name")
        if not isinstance(name, str) or not name:
            raise ContractDefinitionError(f"{where}: a field has neither `name` nor `repeat`")
        if names.count(name) > 1:
            raise ContractDefinitionError(f"{where}: the field {name} is declared twice")
    return expanded


def _expand_repeat(entry: dict[str, Any], where: str) -> list[dict[str, Any]]:
    if "repeat" not in entry:
        return [entry]
    pattern = entry["repeat"]
    if "name" in entry or not isinstance(pattern, str) or len(REPEAT_MARK.findall(pattern)) != 1:
        raise ContractDefinitionError(
            f"{where}: a repeat has one {{n}} or {{nn}} in it, and no name beside it"
        )
    try:
        first, count = int(entry.get("first", "1")), int(entry["count"])
    except (KeyError, TypeError, ValueError):
        raise ContractDefinitionError(
            f"{where}: the repeat {pattern} needs a whole number as `count`"
        ) from None
    if not 1 <= count <= 99:
        raise ContractDefinitionError(f"{where}: the repeat {pattern} must have a count from 1 to 99")
    rest = {key: value for key, value in entry.items() if key not in ("repeat", "count", "first")}

    def numbered(text: str, number: int) -> str:
        return text.replace("{nn}", f"{number:02d}").replace("{n}", str(number))

    return [
        {
            **rest,
            "name": numbered(pattern, number),
            **({"label": numbered(rest["label"], number)} if "label" in rest else {}),
            **(
                {"aliases": [numbered(alias, number) for alias in rest["aliases"]]}
                if "aliases" in rest
                else {}
            ),
        }
        for number in range(first, first + count)
    ]


def _merge_named(parent: list[dict[str, Any]], child: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Parent entries with the child's keys laid over the entry of the same name; new ones at the end."""
    own = {entry.get(key): entry for entry in child}
    merged = [{**entry, **own.pop(entry.get(key), {})} for entry in parent]
    return merged + [entry for entry in child if entry.get(key) in own]


def _flatten(name: str, files: Mapping[str, dict[str, Any]], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file called ``name`` with its ancestors folded in and its fields written out."""
    where = f"{name}.yaml"
    if name in seen:
        raise ContractDefinitionError(f"{where}: `extends` runs in a circle")
    raw = dict(files[name])
    raw["fields"] = _expand_fields(raw.get("fields", []), where)
    base_name = raw.pop("extends", None)
    remove, remove_rules = raw.pop("remove", []), raw.pop("remove_rules", [])
    if base_name is None:
        if remove or remove_rules:
            raise ContractDefinitionError(f"{where}: `remove` needs an `extends` to remove from")
        return raw
    if base_name not in files:
        raise ContractDefinitionError(f"{where}: extends {base_name!r}, and there is no such contract")
    base = _flatten(base_name, files, (*seen, name))
    merged = {**base, **raw}
    merged["type_defaults"] = {**base.get("type_defaults", {}), **raw.get("type_defaults", {})}
    for what, names, key in (("fields", remove, "name"), ("rules", remove_rules, "id")):
        held = {entry.get(key) for entry in base.get(what, [])}
        for gone in names:
            if gone not in held:
                raise ContractDefinitionError(f"{where}: removes {gone}, which {base_name} does not have")
        kept = [entry for entry in base.get(what, []) if entry.get(key) not in names]
        merged[what] = _merge_named(kept, _entries(raw.get(what, []), what, where), key)
    merged["derivations"] = _merge_named(
        base.get("derivations", []), _entries(raw.get("derivations", []), "derivations", where), "name"
    )
    return merged


@dataclass(frozen=True)
class _FieldCheck:
    """``between(=10,=49)=0.01`` taken apart."""

    name: str
    literals: tuple[str, ...] = ()
    allow: float | None = None


def _split_check(text: object, field: str, where: str) -> _FieldCheck:
    found = FIELD_CHECK.match(text) if isinstance(text, str) else None
    if found is None:
        raise ContractDefinitionError(
            f"{where}: {field}: a check is written like one_of_codes, null_rate=0.05 or between(=0,=120)"
        )
    name, literals, share = found.groups()
    try:
        allow = float(share) if share else None
    except ValueError:
        raise ContractDefinitionError(f"{where}: {field}: the share after {name} is not a number") from None
    if allow is not None and not 0 <= allow <= 1:
        raise ContractDefinitionError(f"{where}: {field}: the share after {name} must be from 0 to 1")
    if name not in FIELD_CHECK_DEFAULTS:
        raise ContractDefinitionError(f"{where}: {field}: there is no field check called {name!r}")
    return _FieldCheck(name, tuple(part.strip() for part in literals.split(",")) if literals else (), allow)


def _field_rules(dataset: str, field: ContractField, checks: Sequence[_FieldCheck]) -> list[Rule]:
    rules = []
    for check in checks:
        default, says = FIELD_CHECK_DEFAULTS[check.name]
        literals = check.literals
        if check.name == "max_length" and not literals:
            literals = (f"={field.max_length}",)
        bounds = " and ".join(literal[1:] for literal in literals)
        rules.append(
            Rule(
                id=f"{dataset.upper()}.{field.name}.{check.name}",
                severity="warning",
                allow=default if check.allow is None else check.allow,
                check=check.name,
                args=(field.name, *literals),
                says=says.format(field=field.name, type=field.type, literals=bounds),
                source=field.source,
            )
        )
    return rules


def _with_defaults(
    entry: dict[str, Any],
    defaults: Mapping[str, Mapping[str, Any]],
    codes: Mapping[str, CodeList],
) -> dict[str, Any]:
    """A field's own keys over those of its type, with the sentinels of its code list added."""
    full = {**defaults.get(str(entry.get("type")), {}), **entry}
    listed = codes.get(str(full.get("codes")))
    for state, key in STATES:
        extra = listed.with_state(state) if listed is not None else ()
        own = full.get(key, [])
        if extra and isinstance(own, list):
            full[key] = [*own, *(code for code in extra if code not in own)]
    return full


def _may_hold_no_nhs_number(contract: Contract) -> tuple[str, ...]:
    """Codes and texts of the lake. Keys of records, and ids that may have ten characters by contract, are left out:
    of ten-digit ids that are no NHS numbers one in eleven has the right check digit."""
    return tuple(
        field.name
        for field in contract.fields
        if field.in_lake
        and field.type in ("string", "code")
        and field.field_class is not FieldClass.RECORD_KEY
        and (field.max_length is None or field.max_length < 10)
    )


def _build(name: str, files: Mapping[str, dict[str, Any]], codes: Mapping[str, CodeList]) -> Contract:
    where = f"{name}.yaml"
    raw = _flatten(name, files)
    defaults = raw.pop("type_defaults", {})
    shorthand: dict[str, list[_FieldCheck]] = {}
    fields = []
    for entry in raw["fields"]:
        full = _with_defaults(entry, defaults, codes)
        written = full.get("checks", [])
        if not isinstance(written, list):
            raise ContractDefinitionError(f"{where}: {entry['name']}: `checks` must be a list")
        shorthand[entry["name"]] = [_split_check(check, entry["name"], where) for check in written]
        full["checks"] = [check.name for check in shorthand[entry["name"]]]
        fields.append(full)
    contract = parse_model(Contract, {**raw, "fields": fields}, where)
    written_rules = {rule.id for rule in contract.rules}
    record_typed = {rule.args[0] for rule in contract.rules if rule.check == "typed" and rule.args}
    generated: list[Rule] = []
    for field in contract.fields:
        wanted = list(shorthand[field.name])
        measured = field.in_lake or field.field_class is FieldClass.IDENTIFIABLE
        if measured and field.type in TYPED and field.name not in record_typed:
            wanted.append(_FieldCheck("typed"))
        if measured and field.codes is not None:
            wanted.append(_FieldCheck("one_of_codes"))
        first = {check.name: check for check in reversed(wanted)}  # what is written beats what is implied
        ordered = [first[check] for check in dict.fromkeys(check.name for check in wanted)]
        generated += [
            rule for rule in _field_rules(contract.dataset, field, ordered) if rule.id not in written_rules
        ]
    if (scanned := _may_hold_no_nhs_number(contract)) and contract.destination == "lake":
        generated.append(
            Rule(
                id=f"{contract.dataset.upper()}.TEXT.no_nhs_number",
                severity="warning",
                level="record",
                check="no_nhs_number",
                args=scanned,
                says="no code or text that goes to the lake holds an NHS number",
                reason="A number typed into the wrong field would lie in the lake; its record is left out instead.",
            )
        )
    contract = contract.model_copy(update={"rules": contract.rules + tuple(generated)})
    _cross_check(contract, where, codes)
    return contract


# What the models alone cannot see ---------------------------------------------------------------------


def _cross_check(contract: Contract, where: str, codes: Mapping[str, CodeList]) -> None:
    def refuse(sentence: str) -> None:
        raise ContractDefinitionError(f"{where}: {sentence}")

    if where != f"{contract.id}.yaml":
        refuse(f"the file declares {contract.id}, so it should be called {contract.id}.yaml")
    owner: dict[str, str] = {}
    for field in contract.fields:
        for name in (field.name, *field.aliases):
            folded = fold_header(name)
            if folded in owner:
                refuse(f"the column name {folded} belongs to both {owner[folded]} and {field.name}")
            owner[folded] = field.name
            if field.field_class is not FieldClass.FORBIDDEN and forbidden_columns().match(name) is not None:
                refuse(f"{field.name}: the column name {folded} is forbidden by policy")
        if field.codes is not None and field.codes not in codes:
            refuse(f"{field.name}: there is no code list {field.codes!r} in schemas/codes")
        if "max_length" in field.checks and field.max_length is None:
            refuse(f"{field.name}: the check max_length needs a `max_length`")
        states = (*field.null_values, *field.invalid_values, *field.not_stated_values)
        if len(set(states)) != len(states):
            refuse(f"{field.name}: one sentinel is listed under two meanings")
    by_name = {field.name: field for field in contract.fields}

    def known(name: str, user: str) -> ContractField:
        if name not in by_name:
            refuse(f"{user} names {name}, which is not a field of this contract")
        return by_name[name]

    for name in contract.record_key:
        if known(name, "record_key").field_class not in (FieldClass.RECORD_KEY, FieldClass.PERSON_ID):
            refuse(f"record_key: {name} must have the class record_key or person_id")
    if (
        contract.person_id is not None
        and known(contract.person_id, "person_id").field_class is not FieldClass.PERSON_ID
    ):
        refuse(f"person_id: {contract.person_id} must have the class person_id")
    for what, names in (("issuer", contract.issuer), ("provider", contract.provider)):
        for name in names:
            if known(name, what).field_class is not FieldClass.ORGANISATION:
                refuse(f"{what}: {name} must have the class organisation")
    if contract.period.column is not None:
        known(contract.period.column, "period")

    seen: set[str] = set()
    users: list[Rule | Derivation] = [*contract.rules, *contract.derivations]
    for user in users:
        label = user.id if isinstance(user, Rule) else f"the derivation {user.name}"
        if label in seen:
            refuse(f"{label} is declared twice")
        seen.add(label)
        for argument in user.args:
            if argument == ISSUER and contract.issuer and isinstance(user, Derivation):
                continue
            if not argument.startswith("="):
                known(argument, label)
        if isinstance(user, Rule):
            if user.check not in CHECKS:
                refuse(f"{label}: there is no check called {user.check!r}")
        elif user.function not in DERIVATIONS:
            refuse(f"{label}: there is no derivation function called {user.function!r}")
    for derivation in contract.derivations:
        if derivation.name != derivation.name.lower() or derivation.name.upper() in owner:
            refuse(
                f"the derivation {derivation.name} must be lower case and not the name of a delivered column"
            )


# The contracts ----------------------------------------------------------------------------------------


def load_contract_folder(folder: Path, codes: Mapping[str, CodeList] | None = None) -> dict[str, Contract]:
    """Every contract of ``folder`` by id, cross-checked against ``codes`` (default: the project's lists).

    Raises :class:`ContractDefinitionError`, with the file's name and one sentence, for the first that is
    wrong.
    """
    files = {path.stem: read_yaml(path) for path in sorted(folder.glob("*.yaml"))}
    lists = code_lists() if codes is None else codes
    return {name: _build(name, files, lists) for name in files if not name.startswith("_")}


@cache
def load_contracts() -> dict[str, Contract]:
    """The project's contracts, id -> contract; read and checked once per process."""
    return load_contract_folder(CONTRACT_FOLDER)


def contract(dataset: str, version: str) -> Contract:
    """The contract of one layout era. Raises :class:`ContractDefinitionError` when there is none."""
    found = load_contracts().get(f"{dataset}_{version}")
    if found is None:
        raise ContractDefinitionError(f"there is no contract for {dataset}, version {version}")
    return found


def datasets() -> tuple[str, ...]:
    """The names of all datasets, sorted."""
    return tuple(sorted({found.dataset for found in load_contracts().values()}))


def versions(dataset: str) -> tuple[Contract, ...]:
    """The contracts of ``dataset``, newest layout first; empty for an unknown dataset."""
    found = [entry for entry in load_contracts().values() if entry.dataset == dataset]
    return tuple(sorted(found, key=lambda entry: entry.version, reverse=True))


# Columns that nobody may send -------------------------------------------------------------------------


class _ForbiddenGroup(Strict):
    what: str
    reason: str
    source: str
    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


class ForbiddenColumns(Strict):
    """Column names whose mere presence stops a delivery, in every dataset.

    Names are compared by their letters and digits alone, so ``Patient Name``, ``PATIENT_NAME`` and
    ``PatientName`` are one. ``*`` in a pattern stands for anything.
    """

    title: str
    forbidden: tuple[_ForbiddenGroup, ...] = Field(min_length=1)

    def match(self, column: str) -> _ForbiddenGroup | None:
        """The entry that forbids ``column``, or None."""
        bare = _bare(column)
        for group in self.forbidden:
            if bare in {_bare(name) for name in group.names}:
                return group
            if any(fnmatch.fnmatchcase(bare, pattern) for pattern in group.patterns):
                return group
        return None


def _bare(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", fold_header(name))


@cache
def forbidden_columns() -> ForbiddenColumns:
    """The list in ``schemas/policy/forbidden_columns.yaml``; read once."""
    return parse_model(ForbiddenColumns, read_yaml(FORBIDDEN_COLUMNS), FORBIDDEN_COLUMNS.name)


# A delivered header -----------------------------------------------------------------------------------


def fold_header(name: str) -> str:
    """A delivered column name as it is compared: no byte order mark, blanks or quotes, in upper case."""
    return re.sub(r"[\s\"'`\ufeff\u200b]", "", name).upper()


@dataclass(frozen=True)
class HeaderMatch:
    """How a delivered header fits a contract.

    ``columns`` follows the delivered order, None where a column is unknown or forbidden. ``unknown`` holds
    the 0-based positions of unknown columns. ``missing_required``, ``forbidden`` and ``duplicated`` hold
    labels that may be shown: the field's name, or the column's own name where that is safe, else "column 7"
    (from 1). A layout with provider columns needs one of them, whichever it is.
    """

    contract: Contract
    columns: tuple[ContractField | None, ...]
    unknown: tuple[int, ...]
    missing_required: tuple[str, ...]
    forbidden: tuple[str, ...]
    duplicated: tuple[str, ...]
    unknown_labels: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[ContractField, ...]:
        """The recognised fields in delivered order."""
        return tuple(field for field in self.columns if field is not None)


def match_header(contract: Contract, header: Sequence[str]) -> HeaderMatch:
    """Map each delivered column to a field of ``contract`` by name, in any order and letter case.

    Where a file has no header its first record stands in its place, so a name that is not in the contract may
    be a value: such a name is shown only if it looks like a column name *and* at least half of the columns
    were recognised. Raises nothing; the caller decides what follows from the result.
    """
    by_header = contract.by_header
    folded = [fold_header(name) for name in header]
    policy = forbidden_columns()
    columns: list[ContractField | None] = []
    forbidden_at: list[int] = []
    for position, name in enumerate(folded):
        field = by_header.get(name)
        if policy.match(name) is not None or (
            field is not None and field.field_class is FieldClass.FORBIDDEN
        ):
            forbidden_at.append(position)
            field = None
        columns.append(field)
    unknown = [
        position
        for position, field in enumerate(columns)
        if field is None and position not in set(forbidden_at)
    ]
    is_header = 2 * (len(columns) - len(unknown)) >= len(columns) and any(columns)

    def label(position: int) -> str:
        name = folded[position]
        return name if is_header and SAFE_NAME.match(name) else f"column {position + 1}"

    duplicated: list[str] = []
    seen: set[str] = set()
    for position, field in enumerate(columns):
        key = field.name if field is not None else folded[position]
        if key in seen:
            duplicated.append(field.name if field is not None else label(position))
        seen.add(key)
    delivered = {field.name for field in columns if field is not None}
    missing = [field.name for field in contract.fields if field.required and field.name not in delivered]
    if contract.provider and not delivered & set(contract.provider):
        missing.append(f"one of {', '.join(contract.provider)}")
    return HeaderMatch(
        contract=contract,
        columns=tuple(columns),
        unknown=tuple(unknown),
        missing_required=tuple(missing),
        forbidden=tuple(label(position) for position in forbidden_at),
        duplicated=tuple(dict.fromkeys(duplicated)),
        unknown_labels=tuple(label(position) for position in unknown),
    )


def select_contract(dataset: str, header: Sequence[str]) -> Contract:
    """The layout era of a delivered header: the newest whose person id column is there.

    ``TOKEN_PERSON_ID`` came with the person id of 2021-22; ``ENCRYPTED_HESID``, ``PSEUDO_HESID`` and
    ``EXTRACT_HESID`` are names of the id before it. A dataset with a single contract needs no such sign.
    Raises :class:`DeliveryRefused` when no era fits, :class:`ContractDefinitionError` for an unknown dataset.
    """
    candidates = versions(dataset)
    if not candidates:
        raise ContractDefinitionError(f"there is no contract for a dataset called {dataset}")
    if len(candidates) == 1:
        return candidates[0]
    folded = {fold_header(name) for name in header}
    for candidate in candidates:
        if candidate.person_id is None:
            continue
        person = candidate.field(candidate.person_id)
        if folded & {fold_header(name) for name in (person.name, *person.aliases)}:
            return candidate
    names = ", ".join(sorted({c.person_id for c in candidates if c.person_id is not None}))
    raise DeliveryRefused(
        f"the header of this {dataset} file has none of the person id columns ({names})",
        next_step="check that the first line is the header and that the delimiter is | or a comma",
    )


def recognise_dataset(header: Sequence[str]) -> str | None:
    """The dataset whose contract fits ``header`` best, or None when none fits or two fit equally well.

    A contract is a candidate when all its record key columns are there and at least half of the header is
    known to it; the one with the fewest missing required columns, then the most known columns, wins.
    """
    best: dict[str, tuple[int, int]] = {}
    for candidate in load_contracts().values():
        match = match_header(candidate, header)
        delivered = {field.name for field in match.fields}
        if not set(candidate.record_key) <= delivered or 2 * len(match.fields) < len(match.columns):
            continue
        score = (-len(match.missing_required), len(match.fields))
        best[candidate.dataset] = max(score, best.get(candidate.dataset, score))
    if not best:
        return None
    top = max(best.values())
    winners = [dataset for dataset, score in best.items() if score == top]
    return winners[0] if len(winners) == 1 else None
