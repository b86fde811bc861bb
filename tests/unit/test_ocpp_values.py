"""Single values of OCPP: times, numbers, units, words, and what follows from several readings."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Encoding, Number, SignalSpec
from agent.core.points import POINTS, find_point
from drivers.codec.ocpp_measurands import CONTEXTS, LOCATIONS, PHASES, context_name, location_name, meaning
from drivers.codec.ocpp_model import Reading, Stamp, TimeQuality
from drivers.codec.ocpp_readings import reading, samples, totals
from drivers.codec.ocpp_values import (
    MAX_SKEW_US,
    LocalAsUtc,
    flag,
    form,
    integer,
    judged,
    number,
    outlet,
    positive,
    stamp,
    text,
    whole_text,
    wire_time,
    word_of,
)
from tests.ocpp_schemas import schema

GOOD, NO_ZONE, UNSET, SKEWED, MISSING = TimeQuality
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = 1_772_366_400_000_000  #: 2026-03-01T12:00:00Z
MADRID = ZoneInfo("Europe/Madrid")


def micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01t12:00:00z",
        " 2026-03-01 12:00:00 Z\0",
        "2026-03-01T12:00:00.000000000000Z",
        "2026-03-01T12:00:00,0+00:00",
        "2026-03-01T12:00Z",
        "20260301T120000Z",
        "2026-03-01T15:00:00+03",
        "2026-03-01T15:00:00+0300",
        "2026-03-01T15:30:00+03:30",
        "2026-03-01T00:00:00-12:00",
        "2026-03-01T09:00:00\u221203:00",
        "2026-03-01T11:59:60Z",
        "2026-03-01T24:00:00+12:00",
        "2026-03-01T12:00:00 UTC",
    ],
)
def test_every_spelling_of_noon_is_noon(sent: str) -> None:
    assert stamp(sent) == Stamp(NOON, GOOD, sent.strip("\0 "))


@pytest.mark.parametrize(
    ("fraction", "us"), [("5", 500_000), ("123", 123_000), ("123456", 123_456), ("1234569", 123_456), ("0" * 300, 0)]
)
def test_a_fraction_may_have_any_length(fraction: str, us: int) -> None:
    assert stamp(f"2026-03-01T12:00:00.{fraction}Z").t_us == NOON + us


@pytest.mark.parametrize(
    ("sent", "zone", "t_us", "quality"),
    [
        ("2026-03-01T12:00:00", UTC, NOON, NO_ZONE),
        ("2026-03-01T13:00:00", MADRID, NOON, NO_ZONE),
        ("2026-07-01T14:00:00", MADRID, NOON + 122 * 86_400_000_000, NO_ZONE),
        ("2026-03-01", UTC, NOON - 43_200_000_000, NO_ZONE),
        ("2026-03-01T13:00:00Z", LocalAsUtc(MADRID), NOON, GOOD),
        ("2026-03-01T13:00:00", LocalAsUtc(MADRID), NOON, NO_ZONE),
        ("2026-03-01T14:00:00+02:00", LocalAsUtc(MADRID), NOON, GOOD),
        ("1970-01-01T00:00:01Z", UTC, 1_000_000, UNSET),
        ("2000-01-01T00:00:00", UTC, 946_684_800_000_000, UNSET),
        ("2014-12-31T23:59:59Z", UTC, 1_420_070_399_000_000, UNSET),
        ("2015-01-01T00:00:00Z", UTC, 1_420_070_400_000_000, GOOD),
        ("0001-01-01T00:00:00", MADRID, -62_135_595_916_000_000, UNSET),  # before zones, by the sun
        ("0001-01-01T00:00:00", timezone(timedelta(hours=14)), -62_135_647_200_000_000, UNSET),
        ("9999-12-31T24:00:00", MADRID, 253_402_300_800_000_000, NO_ZONE),
    ],
)
def test_what_a_clock_is_worth(sent: str, zone: tzinfo, t_us: int, quality: TimeQuality) -> None:
    assert stamp(sent, zone) == Stamp(t_us, quality, sent)


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "now",
        "2026-02-30T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "12026-03-01T12:00:00Z",
        "2026-03-01T24:00:01Z",
        "2026-03-01T24:00:00.1Z",
        "2026-03-01T25:00:00Z",
        "2026-03-01T12:60:00Z",
        "2026-03-01T12:00:61Z",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:00+01:60",
        "2026-03-01T12:00:00+1",
        "2026-03-01T12:00:00Z!",
        "٢٠٢٦-03-01T12:00:00Z",
        "2026-03-01T",
        "-2026-03-01T12:00:00Z",
    ],
)
def test_what_is_no_time_is_missing_and_shown(sent: str) -> None:
    assert stamp(sent) == Stamp(None, MISSING, sent)


@pytest.mark.parametrize("sent", [None, [], {}, True, 1.5, 10**4000])
def test_what_is_no_text_is_no_time(sent: object) -> None:
    assert stamp(sent).quality is MISSING


OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS),  # noqa: DTZ001 - Hypothesis adds zones
    st.sampled_from(["T", "t", " "]),
    st.booleans(),
)
def test_a_time_with_an_offset_is_what_python_reads(at: datetime, between: str, short: bool) -> None:  # noqa: FBT001
    sent = at.isoformat(between)
    if short:
        sent = sent[:-3] + sent[-2:]
    expected = micros(datetime.fromisoformat(at.isoformat()))
    assert stamp(sent) == Stamp(expected, GOOD if at.year >= 2015 else UNSET, sent)


@given(st.datetimes(datetime(2015, 1, 1), datetime(2199, 1, 1)))  # noqa: DTZ001
def test_a_time_without_an_offset_is_that_of_the_zone(at: datetime) -> None:
    expected = micros(at.replace(tzinfo=MADRID).astimezone(UTC))
    assert stamp(at.isoformat(), MADRID) == Stamp(expected, NO_ZONE, at.isoformat())


@given(st.integers(0, 4 * 10**15))
def test_our_own_times_are_read_back_to_the_ms(t_us: int) -> None:
    assert stamp(wire_time(t_us)).t_us == t_us // 1000 * 1000
    assert wire_time(NOON + 999_999) == "2026-03-01T12:00:00.999Z"


@pytest.mark.parametrize(
    ("late_us", "queued", "quality"),
    [
        (0, False, GOOD),
        (MAX_SKEW_US, False, GOOD),
        (MAX_SKEW_US + 1, False, SKEWED),
        (MAX_SKEW_US + 1, True, GOOD),
        (10**12, True, GOOD),
        (-MAX_SKEW_US, True, GOOD),
        (-MAX_SKEW_US - 1, True, SKEWED),
        (-MAX_SKEW_US - 1, False, SKEWED),
    ],
)
def test_the_past_needs_an_excuse_and_the_future_has_none(late_us: int, queued: bool, quality: TimeQuality) -> None:  # noqa: FBT001
    told = Stamp(NOON, GOOD, "x")
    assert judged(told, NOON + late_us, queued=queued) == Stamp(NOON, quality, "x")


def test_what_has_a_worse_flaw_is_not_judged() -> None:
    for told in (Stamp(None, MISSING), Stamp(5, UNSET)):
        assert judged(told, NOON, queued=False) is told
    assert judged(Stamp(NOON - 10**11, NO_ZONE), NOON, queued=False).quality is SKEWED
    assert stamp("2026-03-01T10:00:00Z", UTC, NOON).quality is SKEWED
    assert stamp("2026-03-01T12:00:00Z", UTC, NOON).quality is GOOD


# --- texts and numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("12", 12),
        (" +12.50 ", 12.5),
        ("12,5", 12.5),
        (".5", 0.5),
        ("5.", 5),
        ('"7"', 7),
        ("1e3", 1000),
        ("-0", 0),
        (7.0, 7),
        (Decimal("1.10"), 1.1),
        ("999999999999999", 999999999999999),
        ("1000000000000000", None),
        (10**4000, None),
        (1e300, None),
        ("1.234,5", None),
        ("1 000", None),
        ("NaN", None),
        ("inf", None),
        ("1_000", None),
        ("0x10", None),
        ("٣", None),
        ("e5", None),
        (".", None),
        ("", None),
        (True, None),
        (None, None),
        ([1], None),
        (float("nan"), None),
    ],
)
def test_a_number_is_read_in_one_way_or_not(sent: object, expected: Number | None) -> None:
    found = number(sent)
    assert found == expected
    assert type(found) is type(expected)


def test_whole_numbers_flags_and_places() -> None:
    assert [integer(one) for one in ("7", 7, 7.0, "7.0", -1)] == [7, 7, 7, 7, -1]
    assert [integer(one) for one in ("7.5", True, 2**63, "x", None)] == [None] * 5
    assert [outlet(one) for one in (2, "2", 0, -1, None, "x")] == [2, 2, 0, 0, 0, 0]
    assert [positive(one) for one in (2, "2", 0, -1, None)] == [2, 2, None, None, None]
    assert [flag(sent) for sent in (True, 1, "True", "1")] == [True] * 4
    nothing: list[object] = [False, 0, None, "no", [], 2]
    assert [flag(sent) for sent in nothing] == [False] * 6


def test_a_text_is_kept_whole_but_for_its_ends() -> None:
    assert text(" a\0b \0\0") == "a\0b"
    nothing: list[object] = [None, True, [], {}, 10**4000]
    assert [text(sent) for sent in nothing] == [""] * 5
    assert [text(sent) for sent in (7, 7.5)] == ["7", "7.5"]
    assert text("x" * 100_000) == "x" * 100_000
    assert whole_text(" é\ud800 ") == " é\\ud800 "


# --- measurands and units --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v16", "v201", "v21"])
def test_the_standards_words_are_known(version: str) -> None:
    if version == "v16":
        value = schema(version, "MeterValues")["properties"]["meterValue"]["items"]["properties"]["sampledValue"]
        words = {key: one["enum"] for key, one in value["items"]["properties"].items() if "enum" in one}
    else:
        found = schema(version, "MeterValues")["definitions"]
        names = ("Measurand", "Phase", "ReadingContext", "Location")
        words = dict(
            zip(
                ("measurand", "phase", "context", "location"),
                (found[f"{one}EnumType"]["enum"] for one in names),
                strict=True,
            )
        )
    assert set(words["phase"]) == set(PHASES)
    assert set(words["context"]) == set(CONTEXTS)
    assert set(words["location"]) <= set(LOCATIONS)
    assert [context_name(one.upper()) for one in words["context"]] == words["context"]
    assert [location_name(one.lower()) for one in words["location"]] == words["location"]
    for measurand in words["measurand"]:
        exact, _ = meaning(measurand, "")
        assert exact is None or (exact.measurand == measurand and meaning(measurand.upper(), "")[0] is exact)
    registers = {one for one in words["measurand"] if one.endswith(".Register") and "LocalGeneration" not in one}
    assert all(meaning(one, "")[0] for one in registers | {"Voltage", "Current.Import", "Power.Active.Import", "SoC"})


def test_each_point_of_a_measurand_is_in_the_vocabulary() -> None:
    value: dict[str, object] = {"value": "1"}
    for measurand in schema("v16", "MeterValues")["properties"]["meterValue"]["items"]["properties"]["sampledValue"][
        "items"
    ]["properties"]["measurand"]["enum"]:
        for phase in ("", *PHASES):
            found = reading({**value, "measurand": measurand, "phase": phase})
            assert found is not None
            assert found.point is None or find_point(found.point)
            assert found.phase == phase


UNITS = [
    ("Energy.Active.Import.Register", "Wh", "kWh", 1000),
    ("Energy.Reactive.Import.Register", "varh", "kvarh", 1000),
    ("Energy.Reactive.Export.Register", "Wh", "kwh", 1000),
    ("Power.Active.Import", "W", "kW", 1000),
    ("Power.Active.Export", "W", "MW", 1_000_000),
    ("Power.Reactive.Import", "var", "kvar", 1000),
    ("Current.Export", "mA", "A", 1000),
    ("Voltage", "mV", "V", 1000),
    ("Power.Factor", "Percent", "", 100),
]
DECIMALS = st.decimals(-999_999_999, 999_999_999, places=6, allow_nan=False)


@pytest.mark.parametrize(("measurand", "small", "large", "factor"), UNITS)
def test_the_same_quantity_in_two_units_is_the_same_number(measurand: str, small: str, large: str, factor: int) -> None:
    @given(DECIMALS)
    def holds(value: Decimal) -> None:
        same = value / factor
        forms: list[dict[str, object]] = [
            {"value": str(value), "unit": small},
            {"value": f" {value:f} ".replace(".", ","), "unit": small.upper() if small != "mV" else small},
            {"value": f"{same:f}", "unit": large},
            {"value": f"{same:f}", "unitOfMeasure": {"unit": large, "multiplier": 0}},
            {"value": f"{value:f}", "unitOfMeasure": {"unit": large, "multiplier": -(len(str(factor)) - 1)}},
        ]
        found = [reading({"measurand": measurand, **one}) for one in forms]
        assert all(one is not None and one.point is not None and one.value is not None for one in found)
        assert len({one.value for one in found if one}) == 1, found

    holds()


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("25.5", "", 25.5),
        ("25.5", "Celcius", 25.5),
        ("298.65", "K", 25.5),
        ("77.9", "Fahrenheit", 25.5),
        ("-40", "f", -40),
    ],
)
def test_temperatures_are_degrees_celsius(value: str, unit: str, expected: float) -> None:
    found = reading({"measurand": "Temperature", "value": value, "unit": unit})
    assert found is not None
    assert (found.point, found.value) == ("temperature_degc", expected)


@pytest.mark.parametrize(
    ("measurand", "unit"),
    [
        ("Energy.Active.Import.Register", "kW"),
        ("Power.Active.Import", "Wh"),
        ("Voltage", "mv!"),
        ("Current.Import", "W"),
        ("Power.Active.Import", "mW"),
        ("Nothing.We.Know", "W"),
        ("Power.Active.Import.Somewhere", "W"),
    ],
)
def test_what_nobody_can_read_has_no_point_and_keeps_its_text(measurand: str, unit: str) -> None:
    found = reading({"measurand": measurand, "value": " 5 ", "unit": unit})
    assert found == Reading(measurand, None, 5, " 5 ", unit)


@pytest.mark.parametrize("multiplier", [10**6, -(10**6), 10**4000, 25])
def test_a_multiplier_beyond_reason_gives_no_value(multiplier: int) -> None:
    found = reading({"value": 1, "unitOfMeasure": {"unit": "Wh", "multiplier": multiplier}})
    assert found is not None
    # one that is no 64-bit integer is none at all
    assert found.value == (1 if abs(multiplier) > 2**63 else None)


@pytest.mark.parametrize(
    ("measurand", "location", "point"),
    [
        ("Power.Active.Import", "Cable", "power_w"),
        ("Power.Active.Import", "EV", None),
        ("Power.Active.Import", "Upstream", None),
        ("Power.Active.Import", "Somewhere", "power_w"),
        ("Temperature", "EV", None),
        ("Temperature", "Cable", None),
        ("Temperature", "Somewhere", None),
        ("Temperature", "body", "temperature_degc"),
        ("SoC", "Outlet", "soc_pct"),
    ],
)
def test_the_place_says_whose_value_it_is(measurand: str, location: str, point: str | None) -> None:
    found = reading({"measurand": measurand, "value": "1", "location": location})
    assert found is not None
    assert found.point == point


def test_of_several_places_one_counts_in_any_order() -> None:
    sent = [{"value": value, "location": place} for value, place in ((1, "Inlet"), (2, "Cable"), (3, "Body"))]
    for order in (sent, sent[::-1], sent[1:] + sent[:1]):
        (sample,) = samples([{"sampledValue": order}])
        assert totals(sample.readings) == {"energy_import_wh": 3}
    # a place that gives no number leaves the word to the others
    (sample,) = samples([{"sampledValue": [*sent, {"value": "NaN", "location": "Outlet"}]}])
    assert totals(sample.readings) == {"energy_import_wh": 3}


def test_signed_data_of_64_kib_is_kept_byte_for_byte() -> None:
    data = "\n " + "OCMF|é" * 10_922
    found = reading({"value": data, "format": "signedData", "context": "Transaction.End"})
    assert found is not None
    assert (found.text, found.signed, found.value, found.context) == (data, True, None, "Transaction.End")
    alone = reading({"value": 5.5, "signedMeterValue": data})
    assert alone is not None
    assert (alone.text, alone.signed, alone.value) == (data, True, 5.5)


# --- totals ----------------------------------------------------------------------------------------------------------


def readings(*pairs: tuple[str, str, Number]) -> list[Reading]:
    found = [reading({"measurand": measurand, "phase": phase, "value": value}) for measurand, phase, value in pairs]
    return [one for one in found if one is not None]


POWER, GIVEN, REGISTER = "Power.Active.Import", "Power.Active.Export", "Energy.Active.Import.Register"


@pytest.mark.parametrize(
    ("pairs", "phases", "point", "value"),
    [
        ([(REGISTER, "L1", 0.1), (REGISTER, "L2", 0.2), (REGISTER, "L3", 0.3)], 3, "energy_import_wh", 0.6),
        ([(REGISTER, "L1", 0.1), (REGISTER, "L2", 0.2)], 3, "energy_import_wh", None),
        ([(REGISTER, "L1", 0.1), (REGISTER, "L2", 0.2)], 2, "energy_import_wh", 0.3),
        ([(REGISTER, "L1", 5)], 1, "energy_import_wh", 5),
        ([(REGISTER, "", 9), (REGISTER, "L1", 1), (REGISTER, "L2", 2), (REGISTER, "L3", 3)], 3, "energy_import_wh", 9),
        (
            [("Voltage", "L1-N", 230), ("Voltage", "L2-N", 231), ("Voltage", "L3-N", 232.5)],
            3,
            "voltage_v",
            231.16666666666666,
        ),
        ([("Current.Import", "L1", 16)], 1, "current_a", 16),
        (
            [("Current.Import", "L1", 16), ("Current.Import", "L2", 16), ("Current.Import", "L3", 16)],
            3,
            "current_a",
            None,
        ),
        ([("Current.Import", "L1", 0), ("Current.Export", "L1", 7)], 1, "current_a", -7),
        ([("Current.Export", "", 0)], 1, "current_a", None),
        ([("Current.Export", "", 0), ("Current.Import", "", 6)], 1, "current_a", 6),
        ([(POWER, "", 500), (GIVEN, "", 20)], 3, "power_w", 480),
        ([(GIVEN, "", 20)], 3, "power_w", -20),
        ([(GIVEN, "", 0)], 3, "power_w", None),
        ([(POWER, "L1", 500), (GIVEN, "L1", 20)], 1, "power_w", 480),
        ([(GIVEN, "L1", 1), (GIVEN, "L2", 2), (GIVEN, "L3", 3)], 3, "power_w", -6),
        ([(POWER, "", 1), (POWER, "", 2)], 3, "power_w", 2),
    ],
)
def test_what_follows_and_what_does_not(
    pairs: list[tuple[str, str, Number]], phases: int, point: str, value: Number | None
) -> None:
    assert totals(readings(*pairs), phases).get(point) == value


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "value", "word"),
    [
        ("energy_import_wh", 733255.884, 733255884),
        ("session_energy_wh.2", 12, 12000),
        ("power_w", 6238.77, 62388),
        ("power_w", 0.25, 2),
        ("power_w", 0.35, 4),
        ("power_w", -0.25, -2),
        ("current_l1_a", 11.385, 1138),
        ("voltage_v", 218.99, 21899),
        ("frequency_hz", 49.98, 49980),
        ("power_factor", -0.147, -147),
        ("soc_pct", 55, 550),
        ("charger_status", 8, 8),
        ("power_w", 999999999999999, 9999999999999990),
    ],
)
def test_a_value_becomes_a_word_rounded_half_even(point: str, value: Number, word: int) -> None:
    assert word_of(point, value) == word


def test_each_point_has_a_form_with_its_unit_and_kind() -> None:
    for name, point in POINTS.items():
        found = form(f"{name}.3")
        assert (found.unit, found.kind) == (point.unit, point.kind)
        assert found.scale == pytest.approx(10**-found.digits)
    with pytest.raises(KeyError):
        form("nothing_w")


@given(st.sampled_from(["power_w", "energy_import_wh", "current_a", "frequency_hz"]), st.integers(-(10**12), 10**12))
def test_a_word_comes_back_as_its_value(point: str, word: int) -> None:
    found = form(point)
    spec = SignalSpec("d", point, found.unit, found.kind, Encoding.INT, found.scale)
    assert word_of(point, spec.physical(word)) == word
