"""The durable side of a configuration's trial: what its note says is what the file holds."""

from pathlib import Path

from agent import config_trial


def test_a_new_text_that_was_noted_to_stay_is_put_back_all_the_same_when_that_is_asked_for(tmp_path: Path) -> None:
    """The note may be renamed and only its folder's sync fail: then the new text does not stay."""
    path = tmp_path / "site.yaml"
    path.write_text("old\n")
    config_trial.begin(path, "1", "ana", "new\n")
    assert path.read_text() == "new\n"
    config_trial.keep(path)
    assert config_trial.undo(path, "the disk failed") == "the disk failed"
    assert path.read_text() == "old\n"
    assert not config_trial.undo_unfinished(path)


def test_what_was_put_back_is_put_back_once(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("old\n")
    config_trial.begin(path, "1", "ana", "new\n")
    config_trial.undo(path, "first")
    path.write_text("new\n")
    assert config_trial.undo(path, "again") == "again"
    assert path.read_text() == "new\n"
