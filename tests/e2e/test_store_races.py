"""A backup, which is another process, and the uplink say at any moment what may leave: also between look and write."""

from contextlib import closing
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.core.model import Batch, Event
from agent.store import quota, sealing
from agent.store.backup import copy_store
from agent.store.db import Store
from agent.store.opening import connect, create_or_open
from agent.store.settings import StoreSettings
from agent.store.thinning import Level, Meaning, thin
from agent.store.unpack import Rows

WAIT_S = 60.0
ALL = 2**62
STREAM = "telemetry"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with an uplink that was away when four hot blocks came, numbered from 1."""
    clock = FakeClock()
    path = tmp_path / "enlace.db"
    store = Store.open(path, clock, StoreSettings(seal_s=1e9))
    try:
        store.maintain().result(WAIT_S)
        store.hold(STREAM, 0).result(WAIT_S)
        for _ in range(4):
            times = [clock.now_us() + number for number in range(50)]
            store.append(Batch([1] * 50, times, list(range(50))))
            store.flush().result(WAIT_S)
            clock.advance(1)
    finally:
        store.close()
    return path


def blocks(path: Path) -> dict[int, tuple[int, bytes]]:
    """What has a number: its first one, and its bytes."""
    with closing(connect(path, read_only=True)) as connection:
        found = connection.execute("SELECT seq, first_seq, data FROM block UNION SELECT seq, seq, data FROM hot")
        return {seq: (first, data) for seq, first, data in found}


def backup(path: Path) -> dict[int, tuple[int, bytes]]:
    """Make one, as another process does; what is in it."""
    target = path.with_name("copy.db")
    copy_store(path, target, lambda _, __: None)
    return blocks(target)


def test_a_backup_between_the_look_and_the_sealing_keeps_what_it_holds(path: Path) -> None:
    with closing(create_or_open(path, StoreSettings())) as connection:
        (group,) = sealing.groups(connection, ALL, 10_000)
        assert not group.may_be_sent
        kept = backup(path)
        sealing.work_on(connection, group, {}, 1, 0)
    assert len(kept) == 4
    assert blocks(path) == kept


def test_a_backup_between_the_look_and_the_thinning_keeps_what_it_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[int, tuple[int, bytes]] = {}

    def thin_slowly(rows: Rows, level: Level, meanings: dict[int, Meaning]) -> Rows:
        if not kept:
            kept.update(backup(path))
        return thin(rows, level, meanings)

    monkeypatch.setattr(quota, "thin", thin_slowly)
    with closing(create_or_open(path, StoreSettings())) as connection:
        (group,) = sealing.groups(connection, ALL, 10_000)
        sealing.work_on(connection, group, {}, 1, 0)
        one = quota.Quota(connection, 1, FakeClock().now_us())
        assert one.free(1) == 0
        assert blocks(path) == kept
        assert one.free(1), "goes on with what is next: whole, for it may have been sent"
        assert all(kept[seq] == found for seq, found in blocks(path).items())


@pytest.mark.parametrize("begin", ["hold", "ack"])
def test_what_a_backup_holds_of_a_site_without_an_uplink_is_not_thinned_for_a_later_one(
    tmp_path: Path, begin: str
) -> None:
    path, clock = tmp_path / "enlace.db", FakeClock()
    store = Store.open(path, clock, StoreSettings(seal_s=1e9))
    try:
        for _ in range(2):
            store.append(Batch([1] * 50, [clock.now_us() + number for number in range(50)], list(range(50))))
            store.flush().result(WAIT_S)
            store.maintain().result(WAIT_S)
        kept = backup(path)
        assert len(kept) == 2
        if begin == "hold":
            store.hold(STREAM, 0).result(WAIT_S)
        else:
            store.ack(STREAM, 0, at_once=True).result(WAIT_S)
        store.record(Event("test.event", 1)).result(WAIT_S)
        store.ack("event", 0, at_once=True).result(WAIT_S)
    finally:
        store.close()
    with closing(create_or_open(path, StoreSettings())) as connection:
        assert quota.Quota(connection, 1, clock.now_us()).free(1)
        assert connection.execute("SELECT sent FROM cursor WHERE stream = 'event'").fetchone() == (0,)
    left = blocks(path)
    assert len(left) == 1, "it goes whole"
    assert all(kept[seq] == found for seq, found in left.items())


@pytest.mark.parametrize("upto", range(5))
def test_what_is_confirmed_between_the_look_and_the_sealing_is_not_sealed_over(path: Path, upto: int) -> None:
    """Else the rest of the block would be behind a number in its middle, and never be sent."""
    with closing(create_or_open(path, StoreSettings())) as connection:
        first = min(blocks(path))
        (group,) = sealing.groups(connection, ALL, 10_000)
        connection.execute("UPDATE cursor SET acked = ? WHERE stream = ?", (first - 1 + upto, STREAM))
        sealing.work_on(connection, group, {}, 1, 0)
    clock = FakeClock()
    store = Store.open(path, clock, StoreSettings(seal_s=1e9))
    try:
        store.maintain().result(WAIT_S)
        left = store.blocks(store.acked(STREAM), 10)
        assert sum(block.rows for block in left) == 50 * (4 - upto)
        assert all(block.first_seq > first - 1 + upto for block in left)
    finally:
        store.close()
