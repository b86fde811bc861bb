"""What every ``Outbox`` holds: order, one number per record, repeats after a crash but never a loss, bad rows aside."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.core.blocks import decode_rows
from agent.core.clock import FakeClock
from agent.core.model import Batch, Event
from agent.core.ports import Outbox, StoredBlock
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.settings import StoreSettings

WAIT_S = 60.0


class StoreHouse:
    """A store as the suite needs it: filled from outside, crashed, damaged. Another outbox gets a class like this."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.taken = 0

    @contextmanager
    def open(self) -> Iterator[Store]:
        store = Store.open(self.path, self.clock, StoreSettings(seal_s=1e9))
        try:
            yield store
        finally:
            store.close()

    def put(self, store: Store, blocks: int) -> None:
        """That many blocks of one row each; the rows count up."""
        for _ in range(blocks):
            self.taken += 1
            store.append(Batch([1], [self.clock.now_us()], [self.taken]))
            store.flush().result(WAIT_S)
            self.clock.advance(1)

    def ack(self, store: Store, stream: str, upto_seq: int) -> None:
        """Acknowledge and wait until it stands: it rides with the next group commit, which the fake clock holds off."""
        future = store.ack(stream, upto_seq)
        store.flush().result(WAIT_S)
        future.result(WAIT_S)

    def tidy(self, store: Store) -> None:
        store.maintain().result(WAIT_S)

    def damage_block(self, seq: int) -> None:
        self._change("UPDATE hot SET data = x'4542' WHERE seq = ?", seq)

    def damage_event(self, seq: int) -> None:
        self._change("UPDATE event SET data = '{' WHERE seq = ?", seq)

    def _change(self, statement: str, seq: int) -> None:
        connection = connect(self.path)
        assert connection.execute(statement, (seq,)).rowcount == 1
        connection.close()


@pytest.fixture(params=[StoreHouse])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> StoreHouse:
    made: StoreHouse = request.param(tmp_path / "enlace.db")
    return made


def values(blocks: list[StoredBlock]) -> list[int | None]:
    return [word for block in blocks for _, _, word in decode_rows(block.data)]


def numbers(blocks: list[StoredBlock]) -> list[tuple[int, int]]:
    return [(block.first_seq, block.seq) for block in blocks]


def drain(outbox: Outbox, after_seq: int, step: int = 3) -> list[StoredBlock]:
    """All blocks behind that number, as an uplink reads them."""
    found: list[StoredBlock] = []
    while part := outbox.blocks(after_seq, step):
        found += part
        after_seq = part[-1].seq
    return found


def test_blocks_leave_in_order_and_bounded(house: StoreHouse) -> None:
    with house.open() as store:
        assert store.blocks(0, 10) == []
        assert store.newest("telemetry") == 0
        house.put(store, 7)
        assert len(store.blocks(0, 3)) == 3
        assert values(drain(store, 0)) == [1, 2, 3, 4, 5, 6, 7]
        assert numbers(store.blocks(5, 10)) == [(6, 6), (7, 7)]
        assert store.newest("telemetry") == 7
        assert {block.boot for block in store.blocks(0, 10)} == {store.boot}
        assert store.blocks(0, 10)[0].rows == 1


def test_acknowledging_moves_forward_only_and_lasts(house: StoreHouse) -> None:
    with house.open() as store:
        house.put(store, 3)
        assert store.acked("telemetry") == 0
        house.ack(store, "telemetry", 2)
        house.ack(store, "telemetry", 1)
        assert store.acked("telemetry") == 2
        assert store.acked("event") == 0
    with house.open() as store:
        assert store.acked("telemetry") == 2


def test_a_crash_between_reading_and_acknowledging_repeats(house: StoreHouse) -> None:
    with house.open() as store:
        house.put(store, 4)
        store.hold("telemetry", None).result(WAIT_S)
        before = numbers(store.blocks(0, 10))
        house.ack(store, "telemetry", 2)
    with house.open() as store:  # the last process never said what it had sent
        house.tidy(store)
        assert numbers(store.blocks(store.acked("telemetry"), 10)) == before[2:]
        assert values(store.blocks(2, 10)) == [3, 4]


def test_what_may_be_on_its_way_keeps_its_number(house: StoreHouse) -> None:
    with house.open() as store:
        store.hold("telemetry", None).result(WAIT_S)
        house.put(store, 6)
        house.tidy(store)
        assert numbers(store.blocks(0, 10)) == [(n, n) for n in range(1, 7)]
        house.ack(store, "telemetry", 2)
        store.hold("telemetry", 4).result(WAIT_S)
        house.tidy(store)
        # 1 and 2 are acknowledged, 3 and 4 may have left, 5 and 6 surely have not.
        assert numbers(store.blocks(0, 10)) == [(1, 2), (3, 3), (4, 4), (5, 6)]
        assert values(store.blocks(2, 10)) == [3, 4, 5, 6]
        house.ack(store, "telemetry", 4)
        house.tidy(store)
        assert numbers(store.blocks(0, 10)) == [(1, 2), (3, 4), (5, 6)]


def test_an_earlier_connection_is_not_forgotten(house: StoreHouse) -> None:
    with house.open() as store:
        house.put(store, 6)
        store.hold("telemetry", None).result(WAIT_S)
        store.hold("telemetry", 4).result(WAIT_S)
        store.hold("telemetry", None).result(WAIT_S)
        store.hold("telemetry", 1).result(WAIT_S)  # the second connection got less far
        house.tidy(store)
        assert numbers(store.blocks(0, 10)) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)]


def test_without_an_uplink_everything_may_be_packed(house: StoreHouse) -> None:
    with house.open() as store:
        house.put(store, 5)
        house.tidy(store)
        assert numbers(store.blocks(0, 10)) == [(1, 5)]
        assert values(store.blocks(0, 10)) == [1, 2, 3, 4, 5]


def test_acknowledging_into_a_packed_block_repeats_it(house: StoreHouse) -> None:
    with house.open() as store:
        house.put(store, 5)
        house.tidy(store)
        house.ack(store, "telemetry", 3)
        assert values(store.blocks(store.acked("telemetry"), 10)) == [1, 2, 3, 4, 5]


def test_a_damaged_block_is_set_aside_and_the_others_go_on(house: StoreHouse) -> None:
    with house.open() as store:
        house.put(store, 4)
        house.damage_block(2)
        assert values(store.blocks(0, 3)) == [1, 3, 4]
        store.flush().result(WAIT_S)
        assert [stored.event.kind for stored in store.events(0, 10)] == ["store.dropped"]
        assert values(store.blocks(0, 3)) == [1, 3, 4]
        house.put(store, 1)
        assert numbers(store.blocks(4, 10)) == [(5, 5)]  # the number of the damaged one is not given again


def test_a_damaged_newest_block_keeps_its_number(house: StoreHouse) -> None:
    with house.open() as store:
        house.put(store, 2)
        house.damage_block(2)
        assert values(store.blocks(0, 3)) == [1]
        store.flush().result(WAIT_S)
    with house.open() as store:
        house.put(store, 1)
        assert numbers(store.blocks(1, 10)) == [(3, 3)]


def test_a_damaged_event_is_set_aside_and_the_others_go_on(house: StoreHouse) -> None:
    with house.open() as store:
        for number in range(4):
            store.record(Event("test.event", number)).result(WAIT_S)
        house.damage_event(2)
        assert [stored.seq for stored in store.events(0, 3)] == [1, 3, 4]
        store.flush().result(WAIT_S)
        kinds = [(stored.seq, stored.event.kind) for stored in store.events(4, 10)]
        assert kinds == [(5, "store.row_set_aside")]


def test_events_leave_in_order_with_what_was_recorded(house: StoreHouse) -> None:
    with house.open() as store:
        data: dict[str, object] = {"value": 1.5, "nan": float("nan"), "text": "ñ", "list": (1, {"a": None})}
        assert store.record(Event("alarm.on", 5, "battery1", data)).result(WAIT_S) == 1
        assert store.record(Event("alarm.off", 6)).result(WAIT_S) == 2
        first = store.events(0, 1)[0]
        assert (first.seq, first.boot, first.event.kind, first.event.t_us) == (1, store.boot, "alarm.on", 5)
        assert first.event.data == {"value": 1.5, "nan": None, "text": "ñ", "list": [1, {"a": None}]}
        assert [stored.seq for stored in store.events(1, 10)] == [2]
        assert [stored.seq for stored in store.events(0, 10, "alarm.of")] == [2]
        assert store.newest("event") == 2
        house.ack(store, "event", 1)
        assert store.acked("event") == 1


def test_records_of_commits_are_announced(house: StoreHouse) -> None:
    calls: list[str] = []
    with house.open() as store:
        store.on_commit(lambda: calls.append(threading.current_thread().name))
        house.put(store, 1)
        store.record(Event("test.event", 1)).result(WAIT_S)
        house.ack(store, "telemetry", 1)
        store.flush().result(WAIT_S)
    assert calls == ["store-writer", "store-writer"]  # an acknowledgement adds no record


def test_unknown_streams_are_refused(house: StoreHouse) -> None:
    with house.open() as store:
        calls: list[Callable[[], object]] = [
            lambda: store.acked("nothing"),
            lambda: store.newest("nothing"),
            lambda: store.ack("nothing", 1),
            lambda: store.hold("nothing", 1),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="telemetry and event"):
                call()


CRASHING = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from agent.core.clock import FakeClock
from agent.core.model import Batch
from agent.store.db import Store
store = Store.open(Path({path!r}), FakeClock())
store.hold("telemetry", None).result(60)
for number in range(1, 6):
    store.append(Batch([1], [number], [number]))
    store.flush().result(60)
sent = [block.seq for block in store.blocks(0, 3)]
acked = store.ack("telemetry", sent[0])
store.flush().result(60)
acked.result(60)
os._exit(9)
"""


def test_a_killed_process_repeats_what_it_sent_under_the_same_numbers(house: StoreHouse) -> None:
    script = CRASHING.format(root=str(Path(__file__).resolve().parents[2]), path=str(house.path))
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 9
    with house.open() as store:
        assert store.acked("telemetry") == 1
        store.hold("telemetry", store.acked("telemetry")).result(WAIT_S)
        house.tidy(store)
        assert numbers(store.blocks(1, 10)) == [(2, 2), (3, 3), (4, 4), (5, 5)]
        assert values(store.blocks(1, 10)) == [2, 3, 4, 5]
