"""What telegrams become: exact words, learnt signals, edges of identity, silence and loss."""

import asyncio
from collections.abc import Sequence

import pytest

from agent.core.errors import StoreError
from agent.core.model import Encoding, Kind, SignalSpec
from drivers.codec.telegram import Reading, Telegram
from drivers.serial_meter.signals import MAX_SIGNALS, MeterSignals, exact
from drivers.serial_meter.silence import Silence
from tests.sinks import RecordingSink


def telegram(*readings: Reading, meter: str | None = None, identity: Sequence[tuple[str, str]] = ()) -> Telegram:
    return Telegram(meter, readings, tuple(identity))


def energy(kwh: float) -> Reading:
    return Reading("1-0:1.8.0", kwh, "kWh", "energy_import_wh", 1000)


def odd(value: float, code: str = "0-0:99.1.0") -> Reading:
    return Reading(code, value, "bar")


class Bench:
    """A meter's signals with what they handed over."""

    def __init__(self, *, keep_unmapped: bool = False) -> None:
        self.signals = MeterSignals("m", "/dev/x", keep_unmapped=keep_unmapped)
        self.sink = RecordingSink()

    def take(self, *telegrams: Telegram, at_s: float = 0.0) -> None:
        asyncio.run(self.signals.take(telegrams, self.sink, int(at_s * 1e6), at_s))


@pytest.mark.parametrize(
    ("value", "scale", "result"),
    [
        (4788.631, 1000, 4788631.0),
        (1.1, 3, 3.3),
        (0.1, 0.1, 0.01),
        (35, 0.001, 0.035),
        (7, 1000, 7000),
        (2**63 - 1, 10, (2**63 - 1) * 10),
        (0.3, 1, 0.3),
        (1e-9, 1e9, 1.0),
    ],
)
def test_values_are_multiplied_as_on_paper(value: float, scale: float, result: float) -> None:
    assert exact(value, scale) == result


def test_a_telegram_is_one_batch_and_what_is_repeated_is_touched() -> None:
    bench = Bench()
    voltage = Reading("1-0:12.7.0", 230.1, "V", "voltage_v")
    bench.take(telegram(energy(4788.631), voltage), at_s=1)
    bench.take(telegram(energy(4788.632), voltage), at_s=2)
    assert bench.sink.batches == 2
    assert bench.sink.values() == {"m.energy_import_wh": 4788632.0, "m.voltage_v": 230.1}
    assert [row[1] for row in bench.sink.rows] == [1_000_000, 1_000_000, 2_000_000]
    assert bench.sink.touched == [1_000_001]
    assert bench.sink.declared[0] == SignalSpec("m", "energy_import_wh", "Wh", Kind.COUNTER, Encoding.FLOAT)


def test_the_whole_telegram_says_more_than_its_parts() -> None:
    bench = Bench()
    drawn = Reading("1-0:1.7.0", 0.0, "kW", "power_import_w", 1000)
    given = Reading("1-0:2.7.0", 1.234, "kW", "power_export_w", 1000)
    bench.take(telegram(drawn, given))
    assert bench.sink.values()["m.power_w"] == -1234.0


def test_of_two_values_for_one_point_the_first_counts_and_text_is_none() -> None:
    bench = Bench()
    tariff = Reading("0-0:96.14.0", "0002", None, "tariff")
    bench.take(telegram(energy(1), energy(2), Reading("0-0:96.1.1", "12345"), tariff))
    assert bench.sink.values() == {"m.energy_import_wh": 1000.0, "m.tariff": 2.0}


def test_numbers_without_a_point_are_kept_under_their_code_where_wanted() -> None:
    bench = Bench()
    bench.take(telegram(odd(5)))
    assert not bench.sink.rows
    bench = Bench(keep_unmapped=True)
    bench.take(telegram(odd(5)))
    (spec,) = bench.sink.declared
    assert (spec.name, spec.unit, spec.kind) == ("0-0:99.1.0", "bar", Kind.GAUGE)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400])
def test_numbers_that_are_none_give_no_row(value: float) -> None:
    bench = Bench(keep_unmapped=True)
    bench.take(telegram(odd(value), energy(value), odd(1, "0-0:99.2.0")))
    assert bench.sink.values() == {"m.0-0:99.2.0": 1.0}


def test_signals_are_asked_for_once_and_not_without_end() -> None:
    bench = Bench(keep_unmapped=True)
    for start in (0, 0, 300):
        bench.take(telegram(*(odd(1, f"0-0:{start + n}.1.0") for n in range(300))))
    assert len(bench.signals.ids) == MAX_SIGNALS
    assert bench.sink.counts["too_many_signals"] == 600 - MAX_SIGNALS


def test_a_store_that_can_not_number_is_tried_again() -> None:
    class FullSink(RecordingSink):
        full = True

        async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
            if self.full:
                raise StoreError("declare", "disk full")
            return await super().declare(specs)

    bench = Bench()
    bench.sink = sink = FullSink()
    bench.take(telegram(energy(1)))
    assert not sink.rows
    assert sink.counts == {"undeclared": 1}
    sink.full = False
    bench.take(telegram(energy(1)))
    assert sink.values() == {"m.energy_import_wh": 1000.0}


def test_who_the_meter_is_is_told_once_for_each_change() -> None:
    bench = Bench()
    for meter, identity in (("1", [("model", "X")]), ("1", [("model", "X")]), (None, []), ("2", [])):
        bench.take(telegram(energy(1), meter=meter, identity=identity))
    assert [(event.kind, dict(event.data)) for event in bench.sink.events] == [
        ("device.identity", {"wire": "/dev/x", "meter": "1", "model": "X"}),
        ("device.identity", {"wire": "/dev/x", "meter": "2", "model": "X"}),
    ]


def test_what_was_lost_is_unknown_once_and_comes_back_in_full() -> None:
    bench = Bench()
    bench.signals.lost(bench.sink, 5)
    bench.take(telegram(energy(1)))
    for _ in range(2):
        bench.signals.lost(bench.sink, 5)
    assert bench.sink.unknown() == [1_000_000]
    bench.take(telegram(energy(1)))
    assert len(bench.sink.rows) == 3
    assert not bench.sink.touched


def test_a_signal_that_is_no_longer_sent_becomes_unknown() -> None:
    bench = Bench()
    for at_s in range(3):
        bench.take(telegram(energy(at_s), Reading("1-0:16.7.0", at_s, "W", "power_w")), at_s=at_s)
    for at_s in range(3, 8):
        bench.take(telegram(energy(at_s)), at_s=at_s)
        bench.signals.expire(bench.sink, at_s, at_s, 5.0)
    assert bench.sink.values() == {"m.energy_import_wh": 7000.0, "m.power_w": None}


def test_a_signal_with_a_longer_period_than_the_meters_is_given_its_time() -> None:
    bench = Bench()
    for at_s in range(70):
        more = [Reading("1-0:16.7.0", at_s, "W", "power_w")] if at_s % 20 == 0 else []
        bench.take(telegram(energy(at_s), *more), at_s=at_s)
        bench.signals.expire(bench.sink, at_s, at_s, 5.0)
    lost = [row for row in bench.sink.rows if not row[3]]
    assert [row[1] for row in lost] == [5]  # before its period was known
    assert bench.sink.values()["m.power_w"] == 60


def times(silence: Silence, *telegrams_s: float, until_s: float) -> list[tuple[str, int]]:
    """The edges that follow from telegrams at these times, looked for each second."""
    edges: list[tuple[str, int]] = []
    waiting = list(telegrams_s)
    for at_s in range(int(until_s)):
        while waiting and waiting[0] <= at_s:
            if silence.heard(waiting.pop(0)):
                edges.append(("heard", at_s))
        if silence.tick(at_s) is not None:
            edges.append(("silent", at_s))
    return edges


def test_silence_is_three_periods_at_least_five_seconds_and_thirty_at_first() -> None:
    assert times(Silence(None), until_s=100) == [("silent", 30)]
    assert times(Silence(None), *range(10), until_s=100) == [("silent", 14)]
    assert times(Silence(None), *range(0, 50, 10), until_s=200) == [("silent", 70)]
    assert times(Silence(12.0), *range(10), until_s=100) == [("silent", 21)]


def test_a_meter_that_sends_in_bursts_is_learnt() -> None:
    bursts = [start + n for start in range(0, 600, 20) for n in (0, 1, 2)]
    edges = [("silent", 7), ("heard", 20), ("silent", 27), ("heard", 40)]
    assert times(Silence(None), *bursts, until_s=600) == edges


def test_a_meter_with_a_long_period_is_learnt_and_an_outage_is_no_period() -> None:
    quarters = range(0, 9000, 900)
    edges = [("silent", 30), ("heard", 900), ("silent", 930), ("heard", 1800)]
    assert times(Silence(None), *quarters, until_s=9000) == edges
    outage = [*range(60), *range(3600, 3660)]
    assert times(Silence(None), *outage, until_s=3700) == [("silent", 64), ("heard", 3600), ("silent", 3664)]


def test_an_outage_after_the_first_telegram_is_no_period() -> None:
    edges = times(Silence(None), 0, *range(3600, 3660), until_s=3700)
    assert edges == [("silent", 30), ("heard", 3600), ("silent", 3664)]


def test_opening_starts_all_times_again() -> None:
    silence = Silence(None)
    silence.heard(0)
    silence.opened(1000)
    assert silence.tick(1029) is None
    assert silence.tick(1030) == 30
    silence.opened(2000)
    assert silence.silent
    assert silence.heard(2001)
    assert silence.limit_s == 30
