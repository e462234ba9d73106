"""The release of a run: its public set, made through disclosure control and signed for by a named role.

A candidate is internal (OFFICIAL SENSITIVE). Nothing of it becomes public by itself: a release manager looks
at what would be public (:func:`show`) and approves it with a reason and a signature (:func:`approve`). The
public set, ``published/public/<run>/``, is built from the cells that :mod:`transforms.disclosure` leaves and
from nothing else; tiny services (NEEDS_DISCUSSION) and what is held back for an open case are not in it.
Numbers that moved only a little since any earlier release, or from one version of an indicator to another, are
hidden, so the exact candidate of a released run is kept.

The caller records the release in the audit log, with the digests of the returned :class:`Release`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import polars as pl

from infra.commit_points import commit_point
from infra.files import make_folder, storage_errors, write_atomic
from infra.naming import make_name, parse_name
from infra.publish import (
    DATABASE,
    PUBLIC,
    RECORD_NAME,
    STAGING,
    Outputs,
    build_candidate,
    canonical_digest,
    check_run_id,
    current_run,
    point,
    put_in_place,
    read_tables,
    runs,
    sweep,
)
from infra.signing import SigningKey, canonical_json, parse_canonical, verify
from schemas.disclosure_policy import DisclosurePolicy, disclosure_policy
from schemas.errors import IntegrityError, NotPermitted, UsageError
from transforms.disclosure import (
    NEEDS_DISCUSSION,
    ROW,
    SHOWN,
    SUPPRESSED,
    changed_little,
    protect,
    public_limits,
    public_values,
)
from transforms.identifiers import refuse_identifiers

ROLE = "release_manager"
SIGNED_FOR = "release-approval"

Held = frozenset[tuple[str, str]]
"""Indicator and provider of cases that are still open: their rows wait for the release after."""


@dataclass(frozen=True)
class Preview:
    """What a release of ``run_id``, whose candidate has this canonical digest, would make public.

    ``counts``: rows shown, suppressed, needs_discussion, held and changed_little (part of the suppressed).
    ``by_indicator``: indicator, version, state, rows. ``discussion``: indicator, version, provider of the
    tiny services, to be discussed with those concerned.
    """

    run_id: str
    candidate_digest: str
    record_date: date
    counts: dict[str, int]
    by_indicator: pl.DataFrame
    discussion: pl.DataFrame


@dataclass(frozen=True)
class Release:
    """A released run: its ``folder``, the files in it, and the signed ``approval``."""

    folder: Path
    outputs: Outputs
    approval: Mapping[str, object]


def show(published: Path, run_id: str | None = None, held: Held = frozenset()) -> Preview:
    """What would be public of ``run_id`` (else of the current run); writes nothing.

    Raises :class:`UsageError` when there is no such run, :class:`schemas.errors.DisclosureRefused` when the
    run may not be released at all, :class:`IntegrityError` when a database cannot be read.
    """
    return _prepare(published, run_id, held)[0]


def approve(
    published: Path,
    run_id: str,
    *,
    person: str,
    role: str,
    reason: str,
    signing_key: SigningKey,
    approved_at: datetime,
    held: Held = frozenset(),
) -> Release:
    """Build the public set of ``run_id``, sign for it, and point ``published/public/current`` to it.

    The approval (a canonical JSON file under its record name) holds the run, the digest of the candidate, the
    sha256 of every file, the counts of :func:`show`, person, role, reason and time, and the signature.

    Killed after the set was complete, the same call by the same signatory only moves the pointer.

    Raises :class:`NotPermitted` for any role but release manager, :class:`UsageError` for a missing reason or
    a run that was released before, :class:`schemas.errors.IdentifierInText` for a reason with an identifier,
    and what :func:`show` raises.
    """
    if role != ROLE:
        raise NotPermitted("only a release manager may release a run to the public")
    if not person.strip() or not reason.strip():
        raise UsageError("a release needs a person and a reason")
    refuse_identifiers(reason, "the reason of a release")
    public = published / PUBLIC
    target = public / check_run_id(run_id)
    if target.exists():
        return _finish(public, target, signing_key)
    preview, protected, tables = _prepare(published, run_id, held)
    values = public_values(protected)
    in_set = {
        "indicator": tables["indicator"],
        "indicator_value": values,
        "funnel_limit": public_limits(protected),
        "provider": tables["provider"].filter(pl.col("code").is_in(values["provider"].unique().to_list())),
    }

    make_folder(public)
    sweep(public)
    staging = make_folder(public / f"{STAGING}{run_id}")
    outputs = build_candidate(staging, in_set, {}, preview.record_date, "OFFICIAL")
    document = {
        "run": run_id,
        "candidate_digest": preview.candidate_digest,
        "outputs": outputs,
        "counts": preview.counts,
        # Not which: whose results wait for a case is nobody's business but the release manager's.
        "held": len(held),
        "person": person,
        "role": role,
        "reason": reason,
        "approved_at": approved_at.astimezone(UTC).isoformat(timespec="seconds"),
    }
    signed = {"approval": document, "signature": signing_key.sign(document, SIGNED_FOR)}
    write_atomic(staging / _approval_name(preview.record_date), canonical_json(signed))
    commit_point("release.set_built")
    put_in_place(staging, target)
    commit_point("release.set_renamed")
    point(public, run_id)
    commit_point("release.pointer_moved")
    return Release(target, outputs, document)


def verify_release(folder: Path, public_keys: Mapping[str, str]) -> dict[str, object]:
    """The approval of the public set in ``folder``, after checking its signature and every file it names.

    ``public_keys``: key id -> public key of the release managers. Raises :class:`IntegrityError` for a
    signature that does not hold, a file that differs, is missing, or is not in the approval.
    """
    names = sorted(path.name for path in folder.iterdir())
    approvals = [name for name in names if name.endswith(".json")]
    if len(approvals) != 1:
        raise IntegrityError("a public set has exactly one approval")
    with storage_errors("reading a public set"):
        signed = parse_canonical((folder / approvals[0]).read_bytes())
        if not isinstance(signed, dict) or set(signed) != {"approval", "signature"}:
            raise IntegrityError("this is not a release approval")
        verify(signed["approval"], signed["signature"], SIGNED_FOR, public_keys)
        approval: dict[str, object] = signed["approval"]
        outputs = approval["outputs"]
        if not isinstance(outputs, dict) or sorted([*outputs, *approvals]) != names:
            raise IntegrityError("a public set has other files than its approval names")
        for name, digests in outputs.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digests["sha256"]:
                raise IntegrityError("a file of a public set is not the one that was approved")
    return approval


# the parts ------------------------------------------------------------------------------------------


def _finish(public: Path, target: Path, signing_key: SigningKey) -> Release:
    """Move the pointer to a set that a killed release left complete; refuse one that was released before."""
    seen = current_run(public)
    if seen is not None and seen >= target.name:
        raise UsageError("this run was released before")
    approval = verify_release(target, {signing_key.key_id: signing_key.public})
    point(public, target.name)
    return Release(target, cast(Outputs, approval["outputs"]), approval)


def _approval_name(record_date: date) -> str:
    return make_name(record_date, RECORD_NAME, "release approval", 1, "OFFICIAL", "json")


def _prepare(
    published: Path, run_id: str | None, held: Held
) -> tuple[Preview, pl.DataFrame, dict[str, pl.DataFrame]]:
    run_id = run_id or current_run(published) or ""
    if run_id not in runs(published):
        raise UsageError("there is no published run of this name", next_step="see `wardwatch status`")
    folder = published / run_id
    policy = disclosure_policy()
    tables = read_tables(folder, ("indicator", "indicator_value", "provider"))
    waiting = pl.DataFrame(sorted(held), schema=["indicator", "provider"], orient="row").cast(pl.String)
    tables["indicator"] = tables["indicator"].filter(pl.col("release") == "public")
    exact = tables["indicator_value"].join(tables["indicator"], on=["indicator", "version"], how="semi")
    values = exact.join(waiting, on=["indicator", "provider"], how="anti")
    changed = _changed_since_releases(published, run_id, values, policy)
    protected = protect(values, tables["indicator"], policy, changed)
    states = protected["state"].to_list()
    preview = Preview(
        run_id=run_id,
        candidate_digest=canonical_digest(folder / DATABASE),
        record_date=_record_date(folder),
        counts={
            **{state: states.count(state) for state in (SHOWN, SUPPRESSED, NEEDS_DISCUSSION)},
            "held": exact.height - values.height,
            "changed_little": changed.height,
        },
        by_indicator=protected.group_by("indicator", "version", "state")
        .agg(pl.len().cast(pl.Int64).alias("rows"))
        .sort("indicator", "version", "state"),
        discussion=protected.filter(pl.col("state") == NEEDS_DISCUSSION)
        .select("indicator", "version", "provider")
        .unique()
        .sort("indicator", "version", "provider"),
    )
    return preview, protected, tables


def _changed_since_releases(
    published: Path, run_id: str, values: pl.DataFrame, policy: DisclosurePolicy
) -> pl.DataFrame:
    """The rows that differ a little from any run released before, or from another version in this one."""
    changed = [changed_little(values, values, policy)]
    for earlier in runs(published / PUBLIC):
        if earlier == run_id:
            continue
        if earlier not in runs(published):
            raise IntegrityError(
                "the exact candidate of a released run is missing, so differences cannot be checked",
                next_step="restore it from a backup before releasing another run",
            )
        before = read_tables(published / earlier, ("indicator_value",))["indicator_value"]
        changed.append(changed_little(values, before, policy))
    return pl.concat(changed).group_by(ROW).agg(pl.col("denominator_moved").any()).sort(ROW)


def _record_date(folder: Path) -> date:
    for path in sorted(folder.glob("*.html")):
        return parse_name(path.name).date
    raise IntegrityError("a published run has no report, so the date of its records is not known")
