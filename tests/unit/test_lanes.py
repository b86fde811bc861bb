"""The uplink's bookkeeping: lanes, cursor, the central server's word, as a model against a server that forgets nothing.

The model drives what ``cloud_sync/sending.py`` drives: commits, sealing, loss of records, reads in either lane, PUBACKs
in any order, words of the server, cuts and restarts. A server that keeps (first number, last number) as a key must in
the end have each row exactly once, and nothing that it lacks may have been confirmed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloud_sync.lanes import (
    FIRST_PATIENCE_S,
    KEPT_RANGES,
    MAX_AHEAD_BYTES,
    MAX_AHEAD_RECORDS,
    MAX_PATIENCE_S,
    MAX_RANGES,
    Lane,
    Ranges,
    Stream,
)


@dataclass(frozen=True)
class Rec:
    """A record: one row for each of its numbers."""

    first_seq: int
    seq: int


def one(seq: int) -> Rec:
    return Rec(seq, seq)


# Ranges.

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "forget"]), st.integers(1, 60), st.integers(0, 8)), min_size=1, max_size=40
)


@given(STEPS)
def test_ranges_are_a_set_of_numbers(steps: list[tuple[str, int, int]]) -> None:
    ranges, numbers = Ranges(), set[int]()
    for what, first, more in steps:
        if what == "add":
            ranges.add(first, first + more)
            numbers |= set(range(first, first + more + 1))
        else:
            ranges.forget(first)
            numbers = {number for number in numbers if number > first}
    for number in range(70):
        following = number
        while following + 1 in numbers:
            following += 1
        assert ranges.reach(number) == following
        assert ranges.covers(number, number + 2) == ({number, number + 1, number + 2} <= numbers)
        assert ranges.next_above(number) == min((other for other in numbers if other > number), default=None)
    assert len(ranges) == sum(number - 1 not in numbers for number in numbers)


def test_ranges_are_bounded_and_keep_the_lowest() -> None:
    ranges = Ranges()
    for index in reversed(range(MAX_RANGES + 50)):
        ranges.add(2 * index, 2 * index)
    assert len(ranges) == MAX_RANGES
    assert ranges.covers(0, 0)
    assert not ranges.covers(2 * MAX_RANGES + 2, 2 * MAX_RANGES + 2)


# One stream.


def sent(stream: Stream, lane: Lane, *records: Rec, size: int = 10) -> list[int]:
    """What a lane hands over of the records of one read."""
    stream.read_from(lane)
    result = []
    for record in stream.take(lane, records):
        stream.leaving(record.seq)
        stream.handed(lane, record, size)
        result.append(record.seq)
    return result


def connected(newest: int, *, by_word: bool = False) -> Stream:
    stream = Stream("telemetry")
    stream.believe(by_word=by_word)
    stream.connect(0, newest)
    return stream


def test_live_data_is_confirmed_beside_a_backlog_that_is_not_sent_again() -> None:
    stream = connected(10)
    assert sent(stream, stream.live, one(11), one(12)) == [11, 12]
    for seq in (12, 11):
        stream.delivered(one(seq))
    assert stream.cursor == 0
    stream.connect(0, 14)
    assert sent(stream, stream.backlog, *map(one, range(1, 11))) == list(range(1, 11))
    assert stream.read_from(stream.backlog) == 12, "11 and 12 are there"
    for seq in range(1, 11):
        stream.delivered(one(seq))
    assert stream.cursor == 12


def test_the_servers_word_is_believed_only_as_far_as_records_have_left() -> None:
    stream = connected(10, by_word=True)
    sent(stream, stream.backlog, one(1), one(2))
    sent(stream, stream.live, one(11))
    stream.word(11)
    assert stream.cursor == 2
    stream.word(1)
    assert stream.cursor == 2


def test_what_is_gone_is_no_gap_for_the_servers_word() -> None:
    stream = connected(10, by_word=True)
    assert sent(stream, stream.backlog, one(2), one(3), one(6)) == [2, 3, 6]
    assert stream.cursor == 1, "1 is not in the store any more"
    stream.put_aside(one(3))
    stream.word(2)
    assert stream.cursor == 5, "3 is set aside, 4 and 5 are gone"
    assert sent(stream, stream.backlog) == []
    stream.word(6)
    assert (stream.cursor, stream.set_aside) == (10, 1)


def test_what_is_not_confirmed_in_time_is_sent_again_ever_more_rarely() -> None:
    stream = connected(4, by_word=True)
    records = [one(1), one(2)]
    sent(stream, stream.backlog, *records)
    assert not stream.overdue(0.0), "the broker has not acknowledged it"
    for record in records:
        stream.delivered(record)
    now_s, patience_s = 100.0, FIRST_PATIENCE_S
    while patience_s < 4 * MAX_PATIENCE_S:
        assert not stream.overdue(now_s)
        least_s = min(patience_s, MAX_PATIENCE_S)
        assert not stream.overdue(now_s + least_s - 1)
        now_s += least_s
        assert stream.overdue(now_s)
        stream.rewind(0)
        assert sent(stream, stream.backlog, *records) == [1, 2]
        for record in records:
            stream.delivered(record)
        patience_s *= 2
    stream.word(0)
    assert not stream.overdue(now_s)
    assert stream.overdue(now_s + FIRST_PATIENCE_S), "it is heard again, and lacks something"
    stream.rewind(0)
    sent(stream, stream.backlog, *records)
    for record in records:
        stream.delivered(record)
    stream.word(0)
    assert not stream.overdue(now_s)
    assert not stream.overdue(now_s + FIRST_PATIENCE_S), "it is there, and still lacks it: more rarely"
    stream.word(2)
    assert not stream.overdue(now_s + 10 * MAX_PATIENCE_S)
    assert stream.resent == 2 * 8


def has_room(stream: Stream) -> bool:
    return stream.has_room


def test_the_backlog_is_sent_so_far_ahead_of_the_servers_word_only() -> None:
    stream = connected(2 * MAX_AHEAD_RECORDS, by_word=True)
    sent(stream, stream.backlog, *map(one, range(1, MAX_AHEAD_RECORDS)))
    assert has_room(stream)
    sent(stream, stream.backlog, one(MAX_AHEAD_RECORDS))
    assert not has_room(stream)
    stream.word(1)
    assert has_room(stream)
    sent(stream, stream.backlog, one(MAX_AHEAD_RECORDS + 1), size=MAX_AHEAD_BYTES)
    stream.word(MAX_AHEAD_RECORDS)
    assert not has_room(stream)
    stream.believe(by_word=False)
    assert has_room(stream)


def test_a_live_lane_that_is_behind_goes_on_with_the_newest() -> None:
    stream = connected(2)
    sent(stream, stream.live, one(3))
    stream.split(50)
    assert stream.read_from(stream.live) == stream.backlog_left == 50
    assert sent(stream, stream.backlog, one(1), one(2), one(3), one(4)) == [1, 2, 4]


def test_what_was_committed_after_a_read_is_not_lost_for_it() -> None:
    stream = connected(2)
    lane = stream.backlog
    assert stream.read_from(lane) == 0
    stream.split(5)  # 1 and 2 are gone, and while the store was read 3 to 5 came
    assert list(stream.take(lane, [])) == []
    assert stream.cursor == 2
    assert sent(stream, lane, one(3), one(4), one(5)) == [3, 4, 5]


def test_the_ranges_of_many_connections_are_bounded() -> None:
    stream = connected(1)
    for number in range(2 * MAX_RANGES):
        newest = 10 * number + 10
        stream.connect(0, newest)
        sent(stream, stream.live, one(newest + 1))
        stream.delivered(one(newest + 1))
    assert stream.cursor == 0
    stream.connect(0, 100 * MAX_RANGES)
    position = stream.read_from(stream.backlog)
    kept = 0
    while position is not None:
        found = sent(stream, stream.backlog, *[one(position + more) for more in range(1, 11)])
        kept += 10 - len(found)
        if position > 20 * MAX_RANGES:
            break
        position = stream.read_from(stream.backlog)
    assert 0 < kept <= KEPT_RANGES + 1


# The model.


@dataclass
class Disk:
    """The store as the port ``Outbox`` describes it: hold, seal, cursor, one stream."""

    records: list[Rec] = field(default_factory=list)
    newest: int = 0
    acked: int = 0
    sent: int = 0
    sending: bool = False

    def commit(self, count: int) -> None:
        self.records += [one(self.newest + index) for index in range(1, count + 1)]
        self.newest += count

    def read(self, after: int, most: int) -> list[Rec]:
        return [record for record in self.records if record.first_seq > after][:most]

    def ack(self, upto: int) -> None:
        behind = next((record for record in self.records if record.seq > upto), None)
        self.acked = max(self.acked, min(upto, behind.first_seq - 1) if behind else upto)

    def hold(self, upto: int | None) -> None:
        self.sending = upto is None
        self.sent = max(self.sent, upto or 0)

    def reopen(self) -> None:
        if self.sending:
            self.hold(self.newest)

    def drop(self, place: int) -> Rec | None:
        """Lose a record, wherever it is."""
        return self.records.pop(place % len(self.records)) if self.records else None

    def seal(self, most: int) -> None:
        """Neighbours become one, all of them confirmed or all of them surely not sent."""
        result: list[tuple[int, Rec]] = []
        for record in self.records:
            kind = 0 if record.seq <= self.acked else 2 if self.sending or record.seq <= self.sent else 1
            last = result[-1] if result else None
            fits = last is not None and last[0] == kind != 2 and last[1].seq + 1 == record.first_seq
            if fits and last is not None and record.seq - last[1].first_seq < most:
                result[-1] = kind, Rec(last[1].first_seq, record.seq)
            else:
                result.append((kind, record))
        self.records = [record for _, record in result]


PARTS = 3


def parts_of(record: Rec) -> list[Rec]:
    """A large record leaves in several messages that share out its numbers, the same ones each time."""
    numbers = record.seq - record.first_seq + 1
    count = min(PARTS, numbers)
    edges = [record.first_seq + index * numbers // count for index in range(count + 1)]
    return [Rec(first, behind - 1) for first, behind in pairwise(edges)]


class Sync(RuleBasedStateMachine):
    """``by_word``: the server's word confirms; else the broker's, which then keeps everything for the server."""

    make_disk: ClassVar[Callable[[], Disk]] = Disk

    def __init__(self) -> None:
        super().__init__()
        self.disk = type(self).make_disk()
        self.stream = Stream("telemetry")
        self.connected = False
        self.server: set[Rec] = set()  #: the messages it has, by their key
        self.queue: list[Rec] = []  #: of the broker, for the server
        self.under_way: list[tuple[Rec, list[Rec]]] = []  #: records, and their messages without a PUBACK
        self.gone: set[int] = set()
        self.committed = 0
        self.now_s = 0.0

    @initialize(by_word=st.booleans(), before=st.integers(0, 30))
    def begin(self, *, by_word: bool, before: int) -> None:
        self.by_word = by_word
        self.stream.believe(by_word=by_word)
        self.disk.commit(before)

    # The site.

    @rule(count=st.integers(1, 6))
    def commit(self, count: int) -> None:
        self.disk.commit(count)

    @rule(most=st.integers(2, 12))
    def seal(self, most: int) -> None:
        self.disk.seal(most)

    @rule(place=st.integers(0, 40), data=st.data())
    def drop(self, place: int, data: st.DataObject) -> None:
        """Retention, or damage: a record is gone, wherever it is."""
        record = self.disk.drop(place) if data.draw(st.integers(0, 3)) == 0 else None
        if record is not None:
            self.gone |= set(range(record.first_seq, record.seq + 1))

    # The connection.

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.disk.hold(None)
        self.stream.connect(self.disk.acked, self.disk.newest)
        self.connected = True

    @precondition(lambda self: self.connected)
    @rule(live=st.booleans(), most=st.integers(1, 5), stop=st.integers(1, 9))
    def send(self, *, live: bool, most: int, stop: int) -> None:
        """One read of a lane. ``stop``: the connection dies when so many records of it were handed over."""
        lane = self.stream.live if live else self.stream.backlog
        after = self.stream.read_from(lane)
        if after is None:
            return
        records = self.disk.read(after, most)
        self.hand_over(lane, records, stop)

    @precondition(lambda self: self.connected)
    @rule(most=st.integers(1, 5), more=st.integers(1, 5))
    def send_while_more_is_committed(self, most: int, more: int) -> None:
        """Between the read and its use come commits, and the live lane lets what it has not read become backlog."""
        lane = self.stream.backlog
        after = self.stream.read_from(lane)
        if after is None:
            return
        records = self.disk.read(after, most)
        self.disk.commit(more)
        self.stream.split(self.disk.newest)
        self.hand_over(lane, records, 99)

    def hand_over(self, lane: Lane, records: Sequence[Rec], stop: int) -> None:
        for count, record in enumerate(self.stream.take(lane, records)):
            self.stream.leaving(record.seq)
            messages = parts_of(record)
            if count == stop:
                self.queue.append(messages[0])
                self.cut()
                return
            self.queue += messages
            self.under_way.append((record, messages))
            self.stream.handed(lane, record, 10)

    @precondition(lambda self: self.under_way)
    @rule(place=st.integers(0, 99), share=st.integers(0, 99))
    def puback(self, place: int, share: int) -> None:
        index = place % len(self.under_way)
        record, messages = self.under_way[index]
        messages = [message for position, message in enumerate(messages) if position != share % len(messages)]
        self.under_way[index] = record, messages
        if not messages:
            del self.under_way[index]
            self.stream.delivered(record)

    @precondition(lambda self: self.connected and self.under_way)
    @rule(place=st.integers(0, 99), times=st.integers(1, 5))
    def refuse(self, place: int, times: int) -> None:
        record, _ = self.under_way[place % len(self.under_way)]
        if self.stream.refused(record.seq) >= times:
            self.under_way = [other for other in self.under_way if other[0] != record]
            self.stream.put_aside(record)
            self.gone |= set(range(record.first_seq, record.seq + 1))
        else:
            self.cut()

    @rule()
    def split(self) -> None:
        if self.connected:
            self.stream.split(self.disk.newest)

    @rule()
    def persist(self) -> None:
        self.disk.ack(self.stream.cursor)

    @precondition(lambda self: self.connected)
    @rule(stored=st.booleans())
    def cut(self, *, stored: bool = True) -> None:
        self.connected = False
        self.under_way = []
        if stored:
            self.disk.ack(self.stream.cursor)
            self.disk.hold(max(self.stream.newest_sent, self.stream.cursor))

    @rule()
    def restart(self) -> None:
        """``kill -9``: what was in memory is gone."""
        self.connected, self.under_way = False, []
        self.disk.reopen()
        self.stream = Stream("telemetry")
        self.stream.believe(by_word=self.by_word)

    # The server.

    @rule(count=st.one_of(st.integers(1, 2), st.integers(1, 30)))
    def receive(self, count: int) -> None:
        self.server |= set(self.queue[:count])
        del self.queue[:count]

    @precondition(lambda self: self.by_word)
    @rule()
    def forget(self) -> None:
        """A broker that loses its queue: only who waits for the server's word can take that."""
        self.queue.clear()

    @precondition(lambda self: self.by_word and self.connected)
    @rule(less=st.integers(0, 5))
    def word(self, less: int) -> None:
        self.stream.word(max(self.stored_upto() - less, 0))

    @precondition(lambda self: self.by_word and self.connected)
    @rule()
    def overdue(self) -> None:
        self.disk.ack(self.stream.cursor)
        self.stream.rewind(self.disk.acked)

    def has(self) -> set[int]:
        return {number for record in self.server for number in range(record.first_seq, record.seq + 1)}

    def stored_upto(self) -> int:
        """Up to where the server has all; it knows what is gone by ``base``, which is the cursor."""
        has = self.has()
        number = self.stream.cursor
        while number + 1 in has:
            number += 1
        return number

    # What holds.

    @invariant()
    def no_row_is_there_under_two_keys(self) -> None:
        assert len(self.has()) == sum(record.seq - record.first_seq + 1 for record in self.server)

    @invariant()
    def nothing_is_confirmed_that_nobody_has(self) -> None:
        waiting = {number for record in self.queue for number in range(record.first_seq, record.seq + 1)}
        safe = self.has() | self.gone | (set() if self.by_word else waiting)
        assert set(range(1, max(self.stream.cursor, self.disk.acked) + 1)) <= safe

    def teardown(self) -> None:
        """After all that: one good connection, and the server has every row that there is."""
        if not hasattr(self, "by_word"):
            return
        if not self.connected:
            self.connect()
        for _ in range(6):
            for lane in (self.stream.live, self.stream.backlog):
                while (after := self.stream.read_from(lane)) is not None:
                    records = self.disk.read(after, 4)
                    self.hand_over(lane, records, 10**9)
                    if not records:
                        break
            for record, _ in self.under_way:
                self.stream.delivered(record)
            self.under_way = []
            self.receive(10**9)
            if self.by_word:
                self.word(0)
                self.overdue()
        assert self.has() | self.gone >= set(range(1, self.disk.newest + 1))
        assert self.stream.cursor == self.disk.newest
        self.no_row_is_there_under_two_keys()


class TestSync(Sync.TestCase):  # type: ignore[misc,valid-type] # made by Hypothesis
    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
