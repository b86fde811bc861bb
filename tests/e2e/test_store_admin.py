"""The store as seen from outside."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event, SignalSpec
from agent.store.admin import describe
from agent.store.db import Store


def test_a_store_in_use_is_described(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "enlace.db", FakeClock())) as store:
        store.assign([SignalSpec("a", "b"), SignalSpec("a", "c")])
        store.record(Event("test.event", 1)).result(60)
        counts = describe(tmp_path / "enlace.db")
    assert (counts["signal"], counts["boot"], counts["event"], counts["block"]) == (2, 1, 1, 0)


def test_the_folder_that_a_store_makes_is_for_its_owner_alone(tmp_path: Path) -> None:
    Store.open(tmp_path / "site" / "data" / "enlace.db", FakeClock()).close()
    assert (tmp_path / "site" / "data").stat().st_mode & 0o777 == 0o700
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o755)
    Store.open(theirs / "enlace.db", FakeClock()).close()
    assert theirs.stat().st_mode & 0o777 == 0o755  # of one that is there its owner decides


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        describe(tmp_path / "nothing.db")
    (tmp_path / "text.db").write_text("hello " * 1000)
    with pytest.raises(StoreError, match="look into"):
        describe(tmp_path / "text.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t(x)")
    with pytest.raises(StoreError, match="it has no table"):
        describe(tmp_path / "other.db")
