"""Numbers of records are a key at the central server: no file of a site may repeat those of an earlier one."""

from contextlib import closing
from pathlib import Path

from agent.core.clock import FakeClock
from agent.core.model import Batch, Event
from agent.store.db import Store

NOW_US = 1_800_000_000_000_000  # 2027


def give(path: Path, clock: FakeClock) -> tuple[int, int]:
    """The numbers of a first block and a first event in a file."""
    with closing(Store.open(path, clock)) as store:
        store.append(Batch([1], [clock.now_us()], [5]))
        store.flush().result(60)
        event = store.record(Event("test", clock.now_us())).result(60)
        blocks = store.blocks(store.acked("telemetry"), 10)
        assert [one.seq for one in store.events(store.acked("event"), 10)] == [event]
        return blocks[0].seq, event


def test_a_new_file_begins_above_everything_that_an_older_one_gave(tmp_path: Path) -> None:
    clock = FakeClock(NOW_US)
    first = give(tmp_path / "first.db", clock)
    clock.advance(60)
    second = give(tmp_path / "second.db", clock)
    assert min(second) > max(first) + 1000


def test_a_file_goes_on_where_it_was(tmp_path: Path) -> None:
    clock = FakeClock(NOW_US)
    block, event = give(tmp_path / "one.db", clock)
    clock.advance(60)
    with closing(Store.open(tmp_path / "one.db", clock)) as store:
        assert store.newest("telemetry") == block
        assert store.record(Event("test", clock.now_us())).result(60) == event + 1


def test_a_clock_that_was_never_set_begins_at_one(tmp_path: Path) -> None:
    assert give(tmp_path / "one.db", FakeClock(0)) == (1, 1)
