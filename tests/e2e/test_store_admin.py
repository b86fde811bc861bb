"""What the administration's commands see of a store, beside a running one."""

from contextlib import closing
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event, SignalSpec
from agent.store import schema
from agent.store.admin import describe
from agent.store.db import Store


def test_tables_are_counted_beside_a_running_store(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "enlace.db", FakeClock())) as store:
        store.assign([SignalSpec("a", "x"), SignalSpec("a", "y")])
        store.record(Event("test.event", 1)).result(20)
        tables = {table.name: table for table in describe(tmp_path / "enlace.db")}
    assert set(tables) == schema.TABLES
    assert (tables["signal"].rows, tables["event"].rows, tables["block"].rows) == (2, 1, 0)
    assert tables["event"].schema.startswith("CREATE TABLE event")


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        describe(tmp_path / "nothing.db")
    (tmp_path / "text.db").write_text("no database\n" * 20)
    with pytest.raises(StoreError, match=r"text\.db"):
        describe(tmp_path / "text.db")
