"""The pure parts of the central side: where a stream stands, what a message says, rows in PostgreSQL's format."""

import json
import struct
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.core.errors import ConfigError
from agent.core.model import Encoding, Number, Signal, float_to_word, uint_to_word
from agent.core.ports import StoredBlock
from agent.store.blocks import encode
from cloud_sync.central.gaps import Gap, Range, settle, without
from cloud_sync.central.parse import Bad, CatalogIn, EventIn, StateIn, TelemetryIn, parse
from cloud_sync.central.processes import restart_pause_s
from cloud_sync.central.rows import MAX_US, Meaning, MissingSignalError, Samples, copy_rows, merged, months, samples
from cloud_sync.central.settings import CentralSettings, check_dsn, patient
from cloud_sync.payload import encode_block, encode_catalog, encode_event, encode_json, encode_state
from cloud_sync.subscriber import PayloadError
from tests.unit.uplink_fakes import BOOT, SIGNALS, T0_US, block, event

BY_ID = {signal.id: signal for signal in SIGNALS}
MEANINGS = {signal.id: Meaning(100 + signal.id, signal) for signal in SIGNALS}
TOPIC = "enlace/depot-7/telemetry"

# -- gaps


def test_numbers_without_a_hole_move_the_mark() -> None:
    assert settle(10, 0, [(11, 20)], []).upto == 20


def test_a_hole_opens_a_gap_once_and_holds_the_mark() -> None:
    first = settle(10, 0, [(13, 20)], [])
    assert (first.upto, first.opened) == (10, [(11, 12)])
    again = settle(10, 0, [(13, 25)], [Gap(1, 11, 12)])
    assert (again.upto, again.opened, again.filled) == (10, [], [])


def test_a_gap_that_is_filled_is_closed_only_when_nothing_of_it_is_missing() -> None:
    partly = settle(10, 0, [(11, 11), (13, 20)], [Gap(1, 11, 12)])
    assert (partly.upto, partly.filled) == (11, [])
    whole = settle(11, 0, [(12, 20)], [Gap(1, 11, 12)])
    assert (whole.upto, whole.filled) == (20, [1])


def test_what_lies_below_base_is_given_up_only_when_its_gap_is_ripe() -> None:
    young = settle(10, 12, [(13, 20)], [Gap(1, 11, 12)])
    assert (young.upto, young.lost) == (10, [])
    ripe = settle(10, 12, [(13, 20)], [Gap(1, 11, 12, ripe=True)])
    assert (ripe.upto, ripe.lost, ripe.given_up, ripe.filled) == (20, [(11, 12)], [1], [])


def test_only_what_is_below_base_is_given_up() -> None:
    settled = settle(10, 15, [(13, 13), (31, 40)], [Gap(1, 11, 30, ripe=True)])
    assert settled.lost == [(11, 12), (14, 15)]
    assert (settled.upto, settled.given_up, settled.filled) == (15, [], [])


def test_a_base_above_all_that_came_is_a_gap_too() -> None:
    young = settle(10, 5000, [], [])
    assert (young.upto, young.opened) == (10, [(11, 5000)])
    ripe = settle(10, 5000, [], [Gap(1, 11, 5000, ripe=True)])
    assert (ripe.upto, ripe.lost) == (5000, [(11, 5000)])


_NUMBERS = st.sets(st.integers(1, 60), max_size=40)


def _ranges(numbers: set[int]) -> list[Range]:
    found: list[Range] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


def _numbers(ranges: Iterator[Range] | list[Range]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(st.lists(st.tuples(_NUMBERS, st.integers(0, 60), st.booleans()), max_size=8))
@settings(max_examples=300)
def test_whatever_comes_in_whatever_order_each_number_ends_in_one_state(
    rounds: list[tuple[set[int], int, bool]],
) -> None:
    """A model of the ledger: each number is stored, missing or lost, and the mark stands below the lowest missing."""
    stored: set[int] = set()
    lost: set[int] = set()
    gaps: dict[int, Range] = {}
    upto = base = number = 0
    for came, new_base, ripe in rounds:
        stored |= came - lost
        base = max(base, new_base)
        islands = _ranges({one for one in stored if one > upto})
        settled = settle(upto, base, islands, [Gap(key, *whole, ripe=ripe) for key, whole in gaps.items()])
        assert settled.upto >= upto
        upto = settled.upto
        for key in (*settled.filled, *settled.given_up):
            del gaps[key]
        for opened in settled.opened:
            number += 1
            gaps[number] = opened
        new_lost = _numbers(list(settled.lost))
        assert not new_lost & stored
        assert all(one <= base for one in new_lost)
        lost |= new_lost
        top = max([base, *stored, 0])
        missing = set(range(1, top + 1)) - stored - lost
        assert missing <= _numbers(list(gaps.values())), "a missing number without a gap"
        assert upto == (min(missing) - 1 if missing else max(top, upto))
        assert all(_numbers([whole]) & missing for whole in gaps.values()), "a gap with nothing missing"


def test_ranges_without_others() -> None:
    assert without((1, 10), [(3, 4), (8, 20)]) == [(1, 2), (5, 7)]
    assert without((1, 10), []) == [(1, 10)]
    assert without((5, 6), [(1, 10)]) == []


# -- messages


def test_each_kind_of_message_is_told_apart() -> None:
    telemetry = parse(TOPIC, encode_block(block(7), 1, 5))
    assert isinstance(telemetry, TelemetryIn)
    assert (telemetry.site, telemetry.numbers.seq, telemetry.numbers.base) == ("depot-7", 7, 5)
    assert isinstance(parse("enlace/a/event", encode_event(event(3))), EventIn)
    assert isinstance(parse("enlace/a/catalog", encode_catalog(1, SIGNALS)), CatalogIn)
    state = encode_state(online=True, since_us=T0_US, version="1", boot=BOOT)
    assert isinstance(parse("enlace/a/state", state), StateIn)
    assert parse("enlace/a/catalog", b"") is None


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPIC, b""),
        (TOPIC, b"\x00" * 100),
        (TOPIC, b"{}"),
        (TOPIC, b"[" * 100_000),
        (TOPIC, b'{"schema":1,"seq":9,"first_seq":10,"boot":"' + BOOT.encode() + b'","catalog":1,"t0":0,"groups":[]}'),
        (TOPIC, b'{"schema":1,"seq":1,"first_seq":0,"boot":"' + BOOT.encode() + b'","catalog":1,"t0":0,"groups":[]}'),
        (TOPIC, b'{"schema":1,"seq":1,"first_seq":1,"boot":"x","catalog":1,"t0":0,"groups":[]}'),
        (
            TOPIC,
            b'{"schema":1,"seq":99999999999999999999,"first_seq":1,"boot":"'
            + BOOT.encode()
            + b'","catalog":1,"t0":0,"groups":[]}',
        ),
        (f"enlace/{'x' * 201}/telemetry", encode_block(block(1), 1)),
        ("enlace//telemetry", encode_block(block(1), 1)),
        ("enlace/a/event", encode_event(event(3)).replace(str(T0_US + 3).encode(), str(MAX_US).encode())),
        ("enlace/a/catalog", encode_catalog(1, SIGNALS).replace(b'"scale":0.1', b'"scale":1' + b"0" * 400)),
        ("enlace/a/state", b"null"),
    ],
)
def test_what_can_not_be_read_is_refused_in_words(topic: str, payload: bytes) -> None:
    bad = parse(topic, payload)
    assert isinstance(bad, Bad)
    assert bad.reason


def test_a_damaged_block_is_still_known_by_its_envelope() -> None:
    payload = encode_block(block(7, first_seq=4), 1, 3)
    bad = parse(TOPIC, payload[:-5])
    assert isinstance(bad, Bad)
    assert bad.numbers is not None
    assert (bad.numbers.first_seq, bad.numbers.seq, bad.numbers.boot) == (4, 7, BOOT)


@given(
    noise=st.binary(max_size=300),
    name=st.sampled_from(["telemetry", "event", "catalog", "state"]),
    envelope=st.booleans(),
)
def test_no_bytes_whatever_raise(noise: bytes, name: str, *, envelope: bool) -> None:
    payload = encode_block(block(7), 1)[:60] + noise if envelope else noise
    parse(f"enlace/a/{name}", payload)


def test_text_that_postgresql_does_not_take_is_made_visible() -> None:
    told = event(3, text="a\0b", lone="\udc80", nested={"k\0": ["\0"]}, backslash="\\u0000")
    parsed = parse("enlace/a/event", encode_event(told))
    assert isinstance(parsed, EventIn)
    assert json.loads(parsed.data) == {"text": "a␀b", "lone": "?", "nested": {"k␀": ["␀"]}, "backslash": "\\u0000"}


def test_a_base_that_would_confirm_the_message_itself_is_cut() -> None:
    parsed = parse(TOPIC, encode_block(block(7), 1, 1 << 40))
    assert isinstance(parsed, TelemetryIn)
    assert parsed.numbers.base == 6


# -- rows


def _decoded(data: bytes, fields: int) -> list[tuple[int | float | Decimal | None, ...]]:
    """Rows of binary COPY, read by its description in PostgreSQL's manual."""
    rows, at = [], 0
    while at < len(data):
        assert struct.unpack_from(">h", data, at) == (fields,)
        at += 2
        row: list[int | float | Decimal | None] = []
        for field in range(fields):
            (size,) = struct.unpack_from(">i", data, at)
            at += 4
            cell = data[at : at + max(size, 0)]
            at += max(size, 0)
            if size < 0:
                row.append(None)
            elif field == fields - 1:
                row.append(_numeric(cell))
            else:
                row.append(struct.unpack({4: ">i", 8: ">d" if field == fields - 2 else ">q"}[size], cell)[0])
        rows.append(tuple(row))
    return rows


def _numeric(cell: bytes) -> Decimal:
    count, weight, sign, scale, *digits = struct.unpack(f">{len(cell) // 2}H", cell)
    assert (len(digits), scale) == (count, 0)
    value = sum(digit * 10_000 ** (weight - place) for place, digit in enumerate(digits))
    return Decimal(-value if sign == 0x4000 else value)


def _telemetry(payload: bytes) -> TelemetryIn:
    parsed = parse(TOPIC, payload)
    assert isinstance(parsed, TelemetryIn), parsed
    return parsed


def _expected(seq: int) -> set[tuple[int, int, Number | None, None]]:
    rows = set()
    for id_, signal in BY_ID.items():
        for index in range(5):
            value: Number | None = seq + index / 7 if id_ == 5 else signal.physical(seq + index)
            t_us = T0_US + seq * 1_000_000 + index * 100_000 - 946_684_800_000_000
            rows.add((100 + id_, t_us, None if id_ == 2 and index == 4 else value, None))
    return rows


@pytest.mark.parametrize("form", ["blocks", "json"])
def test_rows_are_equal_to_what_was_sent(form: str) -> None:
    payload = encode_block(block(7), 1) if form == "blocks" else next(encode_json(block(7), 1, BY_ID))
    rows = _decoded(copy_rows(samples(_telemetry(payload).message, MEANINGS)), 4)
    assert set(rows) == _expected(7)
    assert len(rows) == 25
    assert [row[0] for row in rows if row[2] is not None] == sorted(row[0] for row in rows if row[2] is not None)  # type: ignore[type-var]


WIDE = (
    Signal("m", "uint", encoding=Encoding.UINT, id=1),
    Signal("m", "int", id=2),
    Signal("m", "scaled", scale=1000, offset=-5, id=3),
    Signal("m", "shifted", offset=-(1 << 53), id=4),
    Signal("m", "float", encoding=Encoding.FLOAT, scale=2.5, offset=1.25, id=5),
    Signal("m", "fraction", scale=0.001, offset=-40, id=6),
)
_WORDS = {
    1: uint_to_word((1 << 64) - 1),
    2: -(1 << 63),
    3: (1 << 60) + 1,
    4: (1 << 53) + 1,
    5: float_to_word(1e300),
    6: (1 << 62) + 1,
}


@pytest.mark.parametrize("form", ["blocks", "json"])
def test_whole_numbers_beyond_a_double_stay_exact(form: str) -> None:
    ids = np.array(list(_WORDS), np.int32)
    data = encode(ids, np.full(6, T0_US), np.array(list(_WORDS.values()), np.int64))
    stored = StoredBlock(1, 1, BOOT, 6, data)
    signals = {signal.id: signal for signal in WIDE}
    payload = encode_block(stored, 1) if form == "blocks" else next(encode_json(stored, 1, signals))
    meanings = {signal.id: Meaning(signal.id, signal) for signal in WIDE}
    rows = {row[0]: row[2:] for row in _decoded(copy_rows(samples(_telemetry(payload).message, meanings)), 4)}
    assert rows[1] == (float((1 << 64) - 1), Decimal((1 << 64) - 1))
    assert rows[2] == (float(-(1 << 63)), Decimal(-(1 << 63)))
    assert rows[3] == (float(((1 << 60) + 1) * 1000 - 5), Decimal(((1 << 60) + 1) * 1000 - 5))
    assert rows[4] == (1.0, None)
    assert rows[5] == (1e300 * 2.5 + 1.25, None)
    assert rows[6] == (((1 << 62) + 1) * 0.001 - 40, None)


@given(
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=20),
    st.sampled_from(list(Encoding)),
    st.sampled_from([1, 10, 0.1, -3, 1e-9]),
    st.sampled_from([0, -40, 0.5, 1 << 53]),
)
@example([-1025], Encoding.UINT, 10, 0.5)  # a whole product beyond a double, and a fraction: rounded once
def test_every_word_becomes_what_the_signal_says(
    words: list[int], encoding: Encoding, scale: Number, offset: Number
) -> None:
    signal = Signal("m", "p", encoding=encoding, scale=scale, offset=offset, id=1)
    count = len(words)
    data = encode(np.ones(count, np.int32), np.full(count, T0_US), np.array(words, np.int64))
    message = _telemetry(encode_block(StoredBlock(1, 1, BOOT, count, data), 1)).message
    found = samples(message, {1: Meaning(9, signal)})
    for place, word in enumerate(words):
        expected = signal.physical(word)
        if expected != expected:  # noqa: PLR0124 - NaN
            assert np.isnan(found.values[place])
            continue
        assert found.values[place] == float(expected)
        exact = type(expected) is int and int(float(expected)) != expected
        assert not exact or found.exact[place] == expected


def test_a_signal_without_catalogue_is_missing() -> None:
    with pytest.raises(MissingSignalError):
        samples(_telemetry(encode_block(block(7), 1)).message, {1: MEANINGS[1]})


def test_times_that_no_calendar_has_are_refused() -> None:
    data = encode(np.ones(1, np.int32), np.array([-5]), np.array([1]))
    message = _telemetry(encode_block(StoredBlock(1, 1, BOOT, 1, data), 1)).message
    with pytest.raises(PayloadError, match="1970"):
        samples(message, MEANINGS)


def test_an_integer_that_no_double_reaches_is_refused() -> None:
    payload = next(encode_json(block(7), 1, BY_ID)).replace(b"0.7", b"1" + b"0" * 400, 1)
    with pytest.raises(PayloadError, match="too large"):
        samples(_telemetry(payload).message, MEANINGS)


def test_rows_of_a_boot_carry_it() -> None:
    message = _telemetry(encode_block(block(7), 1)).message
    assert {row[0] for row in _decoded(copy_rows(samples(message, MEANINGS), boot=77), 5)} == {77}


def test_merged_rows_keep_their_exact_values() -> None:
    one = Samples(np.array([1], np.int32), np.array([0]), np.array([1e18]), {0: 10**18 + 1})
    two = Samples(np.array([1, 2], np.int32), np.array([1, 2]), np.array([1e18, 2.0]), {0: 10**18 + 3})
    rows = _decoded(copy_rows(merged([one, two])), 4)
    assert {row[3] for row in rows} == {Decimal(10**18 + 1), Decimal(10**18 + 3), None}


def test_months_of_times() -> None:
    december, march = 1_733_000_000_000_000, 1_741_000_000_000_000
    assert months([[december]]) == {"2024-11-01"} | months([[december]])
    assert months([[december, march]]) == months([[december]]) | months([[march]])
    assert months([[-1, MAX_US, 1 << 70]]) == set()


# -- settings


def test_a_password_in_the_connection_string_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        check_dsn("postgresql://enlace:s3cret@db/enlace")
    assert "passfile" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("dsn", ["postgresql://host", "nonsense", "dbname=x what=y"])
def test_a_connection_string_that_leads_nowhere_is_refused(dsn: str) -> None:
    with pytest.raises(ConfigError):
        check_dsn(dsn)


@pytest.mark.parametrize("wrong", [{"root": "a/b"}, {"group": "+"}, {"workers": 0}, {"broker_url": "http://x"}])
def test_settings_that_can_not_work_are_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"broker_url": "mqtt://h", "database": "dbname=x"}
    CentralSettings(**good)  # type: ignore[arg-type] # a test's dictionary
    with pytest.raises(ConfigError):
        CentralSettings(**{**good, **wrong})  # type: ignore[arg-type] # the same


def test_a_dead_server_is_found_out_unless_the_connection_string_says_otherwise() -> None:
    assert patient("dbname=x")["tcp_user_timeout"] == "30000"
    assert patient("dbname=x tcp_user_timeout=1")["tcp_user_timeout"] == "1"


def test_each_worker_has_its_own_session_at_the_broker() -> None:
    one = CentralSettings("mqtt://h", "dbname=x", name="m")
    assert {one.link(index).client_id for index in range(3)} == {"central-m-0", "central-m-1", "central-m-2"}
    assert one.link(0).session_expiry_s > 0


def test_a_worker_that_dies_again_and_again_is_started_more_and_more_seldom() -> None:
    pauses = [1.0]
    for _ in range(7):
        pauses.append(restart_pause_s(pauses[-1], ran_s=0.1))
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert restart_pause_s(30, ran_s=100) == 1
