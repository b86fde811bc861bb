"""The order in which a store that is too large gives things up, against a model that knows only the rule."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import Event, Kind
from agent.store import dropped, ledger, rollup, schema, telemetry
from agent.store.pending import Drop
from agent.store.quota import Quota
from agent.store.rollup import HOUR_US, MINUTE_US
from agent.store.transaction import transaction
from agent.store.unpack import Rows, unpack

NOW_US = 1_800_000_000_000_000
T0 = 1_700_000_400_000_000 // HOUR_US * HOUR_US
GAUGE, STATE, COUNTER = 1, 2, 3
KINDS = {GAUGE: Kind.GAUGE, STATE: Kind.STATE, COUNTER: Kind.COUNTER}
#: What went, in the order in which it may: (table, reason of the record).
ORDER = [
    "size",
    "old minutes",
    "unsent_half",
    "unsent_minutes",
    "unsent_states",
    "unsent_raw",
    "maybe_sent",
    "minute",
    "hour",
]
ORDER += ["unsent_registers"]
DAY_US = 24 * HOUR_US
TEN_MINUTES_US = 10 * MINUTE_US


class House:
    """A store's tables without a store: blocks are put in as sealing does, and given up step by step."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        schema.migrate(connection)
        for signal, kind in KINDS.items():
            connection.execute(
                "INSERT INTO signal VALUES(?, 'cp1', ?, '', ?, 0, 1, 0, '{}', '', ?)",
                (signal, kind.value, kind.value, signal),
            )
        connection.execute("INSERT INTO boot(boot, wall_us, mono_us) VALUES('b', 0, 0)")
        connection.execute(
            "INSERT INTO session VALUES(1, 'cp1', 1, 'k', ?, '', '', 0, 0, 0, ?, 0, '', '{}')", (T0, T0 + MINUTE_US)
        )
        connection.execute("INSERT INTO note VALUES('kind', 'key', '{}')")
        ledger.insert(connection, 1, Event("test.kept", 1), "{}")
        self.seq = 0
        self.confirmed_us = 0
        self.stored: Counter[int] = Counter()

    def add(self, signals: list[int], numbers: int, *, hot: bool = False) -> None:
        """A sealed block of so many numbers with 20 rows of each signal within ten minutes, or a hot block."""
        ids = np.repeat(np.array(signals, np.int32), 20)
        times = T0 + self.seq * TEN_MINUTES_US + np.tile(np.arange(20) * (TEN_MINUTES_US // 20), len(signals))
        words = np.arange(len(ids), dtype=np.int64)
        numbers = 1 if hot else numbers
        first, self.seq = self.seq + 1, self.seq + numbers
        block = telemetry.pack(ids, times, words, None, split=not hot)
        values = (self.seq, 1, block.from_us, block.to_us, block.rows, block.crc, block.data)
        if hot:
            self.connection.execute(
                "INSERT INTO hot(seq, boot, from_us, to_us, rows, crc, data) VALUES(?, ?, ?, ?, ?, ?, ?)", values
            )
        else:
            self.connection.execute(
                """INSERT INTO block(first_seq, seq, boot, from_us, to_us, rows, crc, data)
                    VALUES(?, ?, ?, ?, ?, ?, ?, ?)""",
                (first, *values),
            )
        with transaction(self.connection):
            order = ids.argsort(kind="stable")
            rollup.merge(
                self.connection, Rows(ids[order], times[order], words[order], np.zeros(len(ids), np.bool_)), {}
            )
            schema.set_mark(self.connection, "rolled_seq", self.seq)
        self.stored.update(ids.tolist())

    def cursor(self, acked: int, sent: int, *, sending: bool) -> None:
        self.connection.execute(
            """INSERT INTO cursor VALUES('telemetry', ?, ?, ?) ON CONFLICT(stream) DO UPDATE SET
                acked = max(acked, excluded.acked), sent = max(sent, excluded.sent), sending = excluded.sending""",
            (acked, sent, sending),
        )

    def blocks(self) -> dict[int, tuple[str, int, bytes, int]]:
        """By number: table, first number, bytes and level."""
        found = self.connection.execute(
            "SELECT seq, 'block', first_seq, data, level FROM block UNION ALL SELECT seq, 'hot', seq, data, 0 FROM hot"
        )
        return {row[0]: row[1:] for row in found}

    def left(self) -> Counter[int]:
        """Rows of each signal."""
        found: Counter[int] = Counter()
        for _, _, data, _ in self.blocks().values():
            found.update(unpack(data).ids.tolist())
        return found

    def count(self, table: str) -> int:
        found: int = self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own
        return found

    def counted(self) -> Counter[str]:
        """Rows that the record says to be gone, by reason."""
        return Counter(dict(self.connection.execute("SELECT reason, sum(count) FROM dropped GROUP BY reason")))

    def numbers_gone(self) -> set[int]:
        """The numbers that the record says to be gone."""
        spans = self.connection.execute(
            "SELECT from_seq, to_seq FROM dropped WHERE signal IS NULL AND from_seq IS NOT NULL"
        )
        return {number for first, last in spans for number in range(first, last + 1)}

    def numbers(self) -> set[int]:
        return {number for seq, block in self.blocks().items() for number in range(block[1], seq + 1)}

    def next_in_order(self) -> str | None:
        """What must go now, by the rule alone: its reason."""
        row = self.connection.execute("SELECT acked, sent, sending FROM cursor").fetchone()
        acked, sent, sending = row or (2**62, 2**62, 0)
        found = self.blocks()
        if any(seq <= acked for seq in found):
            return "size"
        minute = self.connection.execute("SELECT min(t) FROM minute").fetchone()[0]
        if minute is not None and minute < min(NOW_US - DAY_US, self.confirmed_us) // MINUTE_US:
            return "old minutes"
        unsent = {
            level
            for table, first, _, level in found.values()
            if table == "block" and not sending and first > max(acked, sent)
        }
        for level in range(4):
            if level in unsent:
                return ORDER[level + 2]
        if any(level < 4 and (sending or first <= max(acked, sent)) for _, first, _, level in found.values()):
            return "maybe_sent"
        return next((one for one in ("minute", "hour") if self.count(one)), "unsent_registers" if found else None)

    def check(self) -> None:
        """What holds after each step: nothing of the ledger went, and what is missing is what the record says."""
        assert [self.count(one) for one in ("event", "session", "note")] == [1, 1, 1]
        counted = self.counted()
        del counted["minute_size"], counted["hour_size"]
        assert self.stored.total() - self.left().total() == counted.total()
        assert self.numbers() | self.numbers_gone() == set(range(1, self.seq + 1))
        assert not self.numbers() & self.numbers_gone()

    def step(self) -> str | None:
        """Give up one thing and look at what it was; its reason."""
        due, before, counted = self.next_in_order(), self.blocks(), self.counted()
        if due == "size":
            oldest = unpack(before[min(before)][2])
            self.confirmed_us = max(self.confirmed_us, int(oldest.times_us.max()))
        rolled = self.count("minute"), self.count("hour")
        left = self.left()
        row = self.connection.execute("SELECT max(acked, sent), sending FROM cursor").fetchone()
        went = Quota(self.connection, 1, NOW_US).free(1)
        after = self.blocks()
        assert (due is None) == (went is None)
        self.check()
        changed = [seq for seq in before if after.get(seq) != before[seq]]
        lost = left - self.left()
        if due in ("old minutes", "minute", "hour"):
            assert changed == []
            assert (self.count("minute"), self.count("hour")) < rolled
            return due
        assert (self.count("minute"), self.count("hour")) == rolled
        if due is None:
            return None
        assert len(changed) == 1
        (seq,) = changed
        new = after.get(seq)
        if row and (row[1] or before[seq][1] <= row[0]):
            assert new is None  # whole or not at all: the same numbers carry the same rows
        assert new is None or (new[1], new[3]) == (before[seq][1], before[seq][3] + 1)
        if due in ("unsent_half", "unsent_minutes"):
            assert set(lost) <= {GAUGE}
        if due == "unsent_states":
            assert set(lost) <= {STATE}
        if due == "unsent_raw" and COUNTER in left:
            assert self.left()[COUNTER] > 0
        assert seq == min(one for one in before if before[one][3] == before[seq][3] and one >= seq)
        reasons = self.counted() - counted
        assert set(reasons) <= {due}
        return due


@contextmanager
def house() -> Iterator[House]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield House(connection)


SIGNALS = st.lists(st.sampled_from([GAUGE, STATE, COUNTER]), min_size=1, max_size=3, unique=True)
ADD = st.tuples(st.just("add"), SIGNALS, st.integers(1, 3))
CURSOR = st.tuples(st.just("cursor"), st.integers(0, 12), st.integers(0, 12), st.sampled_from([False, False, True]))
FREE = st.tuples(st.just("free"), st.integers(1, 4))


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.one_of(ADD, ADD, CURSOR, FREE, FREE), max_size=25))
def test_what_goes_next_is_always_what_the_rule_says(steps: list[tuple[object, ...]]) -> None:
    """Whatever comes, is sent and confirmed between: P0 never, and nothing before all that counts less is gone."""
    with house() as one:
        for name, *values in steps:
            if name == "add":
                one.add(*values)  # type: ignore[arg-type] # as drawn
            elif name == "cursor":
                acked, sent = (min(int(str(value)), one.seq) for value in values[:2])
                one.cursor(acked, max(acked, sent), sending=bool(values[2]))
            else:
                for _ in range(int(str(values[0]))):
                    one.step()
        seen = []
        while (reason := one.step()) is not None:
            seen.append(reason)
        assert seen == sorted(seen, key=ORDER.index)
        assert one.blocks() == {}
        assert one.count("minute") == one.count("hour") == 0


def test_the_whole_order() -> None:
    """Confirmed, half, averages, states, raw, what may be under way, roll-ups, and the registers last of all."""
    with house() as one:
        for _ in range(2):
            one.add([GAUGE, STATE, COUNTER], 2)
        one.add([GAUGE, COUNTER], 1, hot=True)
        one.add([GAUGE, STATE, COUNTER], 3)
        one.add([GAUGE], 1)
        one.cursor(2, 5, sending=False)
        seen = []
        while (reason := one.step()) is not None:
            seen.append(reason)
        assert list(dict.fromkeys(seen)) == ORDER
        one.check()


def test_what_came_during_the_pass_is_the_next_ones_to_free() -> None:
    """A flood that came between the steps of a pass cost the roll-ups, though itself was free to go a moment later."""
    with house() as one:
        one.add([GAUGE], 1)
        one.add([GAUGE], 1, hot=True)
        schema.set_mark(one.connection, "rolled_seq", 1)  # the second came since
        waiting = len(one.blocks()[2][2])
        quota = Quota(one.connection, 1, NOW_US)
        assert quota.free(1) == 20
        assert quota.free(waiting) is None
        assert (one.count("minute"), one.count("hour")) == (20, 1)
        assert quota.free(waiting + 1) == 0, "what does not help enough stops nothing"
        assert (one.count("minute"), one.count("hour")) == (11, 1)


def test_a_session_keeps_its_registers() -> None:
    with house() as one:
        one.add([COUNTER], 1)
        one.cursor(0, 0, sending=False)
        for _ in range(4):
            one.step()
        # 30 s apart: both ends of the block (so of its part of the hour), and the row at the session's end with both
        assert unpack(one.blocks()[1][2]).words.tolist() == [0, 2, 19]


@pytest.mark.parametrize("times", [1, 3])
def test_the_ledger_is_told_once_of_what_went(times: int) -> None:
    with house() as one:
        one.add([GAUGE, STATE], 1)
        one.add([GAUGE, STATE], 1)
        one.cursor(0, 0, sending=False)
        one.step()
        one.step()
        for _ in range(times):
            with transaction(one.connection):
                dropped.tell(one.connection, 1, NOW_US)
        (event,) = ledger.select(one.connection, 0, 10, "store.")[0]
        assert event.event.data == {
            "stream": "telemetry",
            "reason": "unsent_half",
            "rows": 20,
            "signals": 1,
            "from_us": T0,
            "to_us": T0 + TEN_MINUTES_US * 2 - TEN_MINUTES_US // 20,
            "from_seq": 1,
            "to_seq": 2,
        }


def test_a_damaged_block_is_evidence_and_in_nobody_s_way() -> None:
    with house() as one:
        one.add([GAUGE], 1)
        one.add([GAUGE], 1)
        one.cursor(0, 0, sending=False)
        one.connection.execute("UPDATE block SET data = x'00' WHERE seq = 1")
        quota = Quota(one.connection, 1, NOW_US)
        assert quota.free(1) == 20
        assert one.count("aside") == 1
        assert list(one.blocks()) == [2]
        assert quota.free(1) == 10


def test_a_long_record_is_summed_up() -> None:
    with house() as one, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dropped, "LIMIT", 5)
        for number in range(20):
            with transaction(one.connection):
                drop = Drop(number % 2, number, number + 1, 3, "unsent_half", number, number)
                dropped.write(one.connection, NOW_US, [drop])
                dropped.tell(one.connection, 1, NOW_US)
            if dropped.is_long(one.connection):
                with transaction(one.connection):
                    dropped.fold(one.connection)
        total, rows = dropped.page(one.connection, 100, 0)
        assert total == len(rows) < 8
        assert sum(row.rows for row in rows) == 60 == dropped.lost_rows(one.connection)
        assert min(row.from_seq or 0 for row in rows) == 0
        assert max(row.to_seq or 0 for row in rows) == 19
