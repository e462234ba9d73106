"""The data dictionary: every dataset and field as one page, written from the contracts and nothing else.

``schemas/DICTIONARY.md`` is what ``python -m schemas.dictionary`` writes; a test holds the two together.
Numbered fields that differ in their number alone are one line ("DIAG_01 to DIAG_20").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.code_lists import code_lists
from schemas.contract import Contract, ContractField, FieldClass, Item, Rule
from schemas.loader import datasets, forbidden_columns, load_contracts, versions

DICTIONARY_FILE = Path(__file__).parent / "DICTIONARY.md"

INTRODUCTION = """\
Column names are matched in any order and letter case. A column that is not listed here is reported and not
kept. A **core** field exists in every lake table of its dataset, empty where it was not delivered; a delivery
without a **required** field, or without any provider column, is refused. **Sentinels** are values that stand
for no value: *none* was submitted without one, *invalid* was submitted and found wrong by the supplier, *not
stated* was asked and not answered. Rare diagnoses and procedures can single a person out too, without being
marked here."""

CLASS_TEXT: dict[FieldClass, tuple[str, str]] = {
    FieldClass.RECORD_KEY: ("key of a record", "lake; also the key, encrypted, of the vault"),
    FieldClass.PERSON_ID: ("number of a person", "nowhere; a keyed token of it goes to the lake"),
    FieldClass.IDENTIFIABLE: ("one of the seven items", "vault, and nowhere else"),
    FieldClass.CLINICAL: ("about the patient's condition and care", "lake"),
    FieldClass.ADMINISTRATIVE: ("about the stay and its record", "lake"),
    FieldClass.ORGANISATION: ("about the hospital", "lake"),
    FieldClass.RESTRICTED: ("delivered, without a purpose of ours", "nowhere: dropped at the door"),
    FieldClass.FORBIDDEN: ("a name or an address", "nowhere: the delivery is refused, an incident raised"),
}
ITEM_TEXT: dict[Item, str] = {
    Item.NHS_NUMBER: "NHS number",
    Item.LOCAL_PATIENT_IDENTIFIER: "local patient identifier",
    Item.DATE_OF_BIRTH: "date of birth",
    Item.POSTCODE: "postcode",
    Item.MOTHERS_DATE_OF_BIRTH: "mother's date of birth",
    Item.BABYS_DATE_OF_BIRTH: "baby's date of birth",
    Item.DATE_OF_DEATH: "date of death",
}


# Writing tables ---------------------------------------------------------------------------------------


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return [*lines, ""]


def _code(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


# Fields of one dataset over its layouts ---------------------------------------------------------------


def _stem(field: ContractField) -> tuple[str, str]:
    """``DIAG_07`` -> (``DIAG_``, ``07``); a name without a number at its end has the empty number."""
    found = re.fullmatch(r"(.*_)(\d{1,2})", field.name)
    return (found.group(1), found.group(2)) if found else (field.name, "")


def _unnumbered(text: str, number: str) -> str:
    """A label without the field's own number: what the labels of numbered fields share."""
    return re.sub(rf"\s?\b{number}\b", "", text, count=1) if number else text


def _signature(field: ContractField, layouts: tuple[str, ...]) -> tuple[object, ...]:
    stem, number = _stem(field)
    plain = field.model_dump(exclude={"name", "label", "aliases"})
    return (stem, _unnumbered(field.label, number), layouts, repr(sorted(plain.items())))


def _layouts(dataset: str) -> list[tuple[ContractField, tuple[str, ...]]]:
    """Every declaration of a field, newest first, with the layouts that share it word for word."""
    found: dict[str, tuple[ContractField, list[str]]] = {}
    order: list[str] = []
    for contract in reversed(versions(dataset)):
        for field in contract.fields:
            key = repr(field)
            if key not in found:
                found[key] = (field, [])
                order.append(key)
            found[key][1].append(contract.version)
    return [(found[key][0], tuple(found[key][1])) for key in order]


def _runs(
    fields: Iterable[tuple[ContractField, tuple[str, ...]]],
) -> list[tuple[list[ContractField], tuple[str, ...]]]:
    """Neighbours that differ in their number alone, together."""
    runs: list[tuple[list[ContractField], tuple[str, ...]]] = []
    last: tuple[object, ...] | None = None
    for field, layouts in fields:
        signature = _signature(field, layouts)
        if signature == last and _stem(field)[1]:
            runs[-1][0].append(field)
        else:
            runs.append(([field], layouts))
        last = signature
    # Two that differ in a number need not be a series: CAUSE_3 and CAUSE_4 are widths.
    return [
        part
        for run, layouts in runs
        for part in ([([field], layouts) for field in run] if len(run) == 2 else [(run, layouts)])
    ]


def _name(run: Sequence[ContractField]) -> str:
    names = f"`{run[0].name}`" if len(run) == 1 else f"`{run[0].name}` to `{run[-1].name}`"
    if run[0].aliases and len(run) == 1:
        names += f" (also {_code(run[0].aliases)})"
    return names


def _label(run: Sequence[ContractField]) -> str:
    if len(run) == 1:
        return run[0].label
    return f"{_unnumbered(run[0].label, _stem(run[0])[1])}, {len(run)} times"


def _type(field: ContractField) -> str:
    parts: list[str] = [field.type]
    if field.max_length is not None:
        parts.append(f"up to {field.max_length} characters")
    if field.codes is not None:
        parts.append(f"codes [{field.codes}](#codes-{field.codes})")
    if field.formats and field.in_lake is False:
        parts.append(_code(field.formats))
    return ", ".join(parts)


def _sentinels(field: ContractField) -> str:
    groups = (
        ("none", field.null_values),
        ("invalid", field.invalid_values),
        ("not stated", field.not_stated_values),
    )
    return "; ".join(f"{what} {_code(values)}" for what, values in groups if values)


def _layout_text(layouts: tuple[str, ...], dataset: str) -> str:
    return "all" if len(layouts) == len(versions(dataset)) else ", ".join(layouts)


def _rule_text(rule: Rule) -> list[str]:
    level = "row left out" if rule.level == "record" else "counted"
    says = rule.says + (f". {rule.reason}" if rule.reason else "")
    return [f"`{rule.id}`", rule.severity, level, f"{rule.allow:.1%}", says]


def _rules(contract: Contract) -> list[str]:
    own = [rule for rule in contract.rules if re.fullmatch(r"[A-Z_]+\.(R\d+|TEXT\.\w+)", rule.id)]
    made = [rule for rule in contract.rules if rule not in own]
    lines = _table(("Rule", "Severity", "Effect", "Tolerated", "What it asks"), map(_rule_text, own))
    by_check: dict[tuple[str, float], list[str]] = {}
    for rule in made:
        by_check.setdefault((rule.check, rule.allow), []).append(rule.args[0])
    lines += [
        "Rules made from the fields, all of them warnings, called "
        f"`{contract.dataset.upper()}.<FIELD>.<check>`:",
        "",
    ]
    rows = [
        (f"`{check}`", f"{allow:.1%}", ", ".join(fields))
        for (check, allow), fields in sorted(by_check.items())
    ]
    return lines + _table(("Check", "Tolerated", "Fields"), rows)


def _dataset(dataset: str) -> list[str]:
    contracts = versions(dataset)
    newest = contracts[0]
    lines = [f"## {dataset}", ""]
    for contract in contracts:
        lines.append(
            f"* **{contract.version}**: {contract.title}. Key {_code(contract.record_key)}"
            + (f", person id `{contract.person_id}`." if contract.person_id else ".")
        )
    period = (
        f"financial year and month `YYYYnn`, also in `{newest.period.column}`"
        if newest.period.kind == "YYYYnn"
        else "none: each delivery holds the whole history and replaces the last"
    )
    goes = (
        "the lake"
        if newest.destination == "lake"
        else "the linkage store and the vault; no table of the lake is made"
    )
    lines += ["", f"Period: {period}. Goes to {goes}. Source: {newest.source}.", ""]
    if newest.issuer:
        lines += [
            f"Issuer of the local patient identifier: the first that is filled of {_code(newest.issuer)}.",
            "",
        ]
    fields = _layouts(dataset)

    identifiable = [(f, v) for f, v in fields if f.field_class is FieldClass.IDENTIFIABLE]
    if identifiable:
        lines += [f"### {dataset}: identifiable items, to the vault only", ""]
        lines += _table(
            ("Field", "Layouts", "Item", "Type", "Sentinels", "What it is"),
            (
                (
                    _name(run),
                    _layout_text(v, dataset),
                    ITEM_TEXT[run[0].item] if run[0].item else "",
                    _type(run[0]),
                    _sentinels(run[0]),
                    _label(run),
                )
                for run, v in _runs(identifiable)
            ),
        )
    kept = [(f, v) for f, v in fields if f.in_lake or f.field_class is FieldClass.PERSON_ID]
    lines += [f"### {dataset}: fields that are kept", ""]
    lines += _table(
        ("Field", "Layouts", "Class", "Type", "Sentinels", "What it is"),
        (
            (
                _name(run),
                _layout_text(v, dataset),
                run[0].field_class.value
                + (", core" if run[0].core else "")
                + (", required" if run[0].required else "")
                + (", quasi-identifier" if run[0].quasi_identifier else ""),
                _type(run[0]),
                _sentinels(run[0]),
                _label(run),
            )
            for run, v in _runs(kept)
        ),
    )
    if newest.derivations:
        lines += [f"### {dataset}: computed before the identifiable items leave", ""]
        lines += _table(
            ("Column", "From", "What it is"),
            ((f"`{d.name}`", f"`{d.function}`({', '.join(d.args)})", d.says) for d in newest.derivations),
        )
    dropped = [(f, v) for f, v in fields if f.field_class is FieldClass.RESTRICTED]
    if dropped:
        lines += [f"### {dataset}: dropped at the door", ""]
        reasons: dict[str, list[str]] = {}
        for run, v in _runs(dropped):
            where = "" if len(v) == len(contracts) else f" ({', '.join(v)})"
            reasons.setdefault(run[0].reason, []).append(_name(run) + where)
        lines += _table(("Why", "Fields"), ((reason, ", ".join(names)) for reason, names in reasons.items()))
    for contract in contracts[:1]:
        lines += [f"### {dataset}: rules of layout {contract.version}", ""]
        lines += _rules(contract)
    return lines


# The page ---------------------------------------------------------------------------------------------


def _quasi_identifiers() -> list[str]:
    rows: dict[tuple[str, str], list[str]] = {}
    for contract in load_contracts().values():
        for field in contract.fields:
            if field.quasi_identifier:
                users = rows.setdefault((field.name, field.reason), [])
                if contract.dataset not in users:
                    users.append(contract.dataset)
    return _table(
        ("Field", "Datasets", "Why it is kept, and what it can give away"),
        ((f"`{name}`", ", ".join(users), reason) for (name, reason), users in sorted(rows.items())),
    )


def _items() -> list[str]:
    rows = []
    for item in Item:
        places = []
        for dataset in datasets():
            fields = [(f, v) for f, v in _layouts(dataset) if f.item is item]
            names = list(dict.fromkeys(_name(run) for run, _ in _runs(fields)))
            if names:
                places.append(f"{dataset}: {', '.join(names)}")
        rows.append((ITEM_TEXT[item], "; ".join(places)))
    return _table(("Item", "Columns"), rows)


def _code_lists() -> list[str]:
    lines = ["## Code lists", ""]
    for name, listed in sorted(code_lists().items()):
        lines += [
            f'<a id="codes-{name}"></a>',
            f"### {name}: {listed.title}",
            "",
            f"Source: {listed.source}.",
            "",
        ]
        lines += _table(
            ("Code", "Label", "Means", "Years"),
            (
                (
                    f"`{entry.code}`",
                    entry.label,
                    (entry.state or "").replace("_", " "),
                    f"{entry.first_year or ''} to {entry.last_year or ''}".strip()
                    if entry.first_year or entry.last_year
                    else "",
                )
                for entry in listed.codes
            ),
        )
    return lines


def _forbidden() -> list[str]:
    policy = forbidden_columns()
    rows = [
        (group.what, _code([*group.names, *group.patterns]), f"{group.reason} Source: {group.source}.")
        for group in policy.forbidden
    ]
    return _table(("What", "Column names (letters and digits count, * stands for anything)", "Why"), rows)


def render() -> str:
    """The whole page, the same text for the same contracts."""
    lines = [
        "# Data dictionary",
        "",
        "Written by `python -m schemas.dictionary` from the contracts and code lists; do not edit.",
        "",
        *INTRODUCTION.splitlines(),
        "",
        "## Classes",
        "",
        *_table(
            ("Class", "What it is", "Where it goes"),
            ((entry.value, what, where) for entry, (what, where) in CLASS_TEXT.items()),
        ),
        "## The seven identifiable items",
        "",
        *_items(),
        "## Fields that single people out in combination, and are kept",
        "",
        *_quasi_identifiers(),
        "## Columns that nobody may send",
        "",
        *_forbidden(),
    ]
    for dataset in datasets():
        lines += _dataset(dataset)
    lines += _code_lists()
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    DICTIONARY_FILE.write_text(render(), encoding="utf-8")
