"""Files are written whole or not at all, and what a killed write left behind is found again."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.files import remove_parts, write_atomic


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_atomic(path, b"old")

    with pytest.raises(TypeError):
        write_atomic(path, "text is not bytes")  # type: ignore[arg-type]

    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_write_left_is_removed_and_whole_files_stay(tmp_path: Path) -> None:
    write_atomic(tmp_path / "run.json", b"{}")
    (tmp_path / "next.json.part").write_bytes(b"half")

    assert remove_parts(tmp_path) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
