"""Files are replaced whole: what fails on the way leaves the old one, and no draft."""

import stat
from pathlib import Path

import pytest

from agent.core.disk import replace_file, sync


def test_a_file_is_replaced_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_text("old")
    path.chmod(0o644)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    replace_file(path, b"for all", mode=0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("old")
    seen: list[bytes] = []

    def refuse(draft: Path) -> None:
        assert draft.parent == path.parent
        assert draft.suffix == path.suffix
        seen.append(draft.read_bytes())
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        replace_file(path, b"new", check=refuse)
    assert (seen, path.read_text(), list(tmp_path.iterdir())) == ([b"new"], "old", [path])


def test_a_place_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "nowhere" / "file", b"")
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nowhere")
