"""Frames recorded from stations that nobody of us wrote, and reported quirks, where the shared test data is at hand.

``traces/*.jsonl`` hold frames with their direction and subprotocol; ``quirks/quirks.json`` a frame of each quirk, with
what a tolerant central system makes of it in words: what is said of the payload is held here.
"""

import json
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.core.model import BadFrame, Number
from drivers.codec import ocpp16, ocpp201
from drivers.codec.ocpp_frame import CallFrame, ResultFrame, unpack
from drivers.codec.ocpp_model import Boot, Meter, Start, Status, Stop, TimeQuality, TransactionEvent
from drivers.codec.ocpp_readings import totals
from drivers.codec.ocpp_values import judged

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "ocpp"
TRACES = sorted(DATA.rglob("*.jsonl"))

DECODERS: dict[tuple[str, str], Callable[[object], object]] = {
    ("ocpp1.6", "BootNotification"): ocpp16.boot,
    ("ocpp1.6", "Authorize"): ocpp16.authorize,
    ("ocpp1.6", "StatusNotification"): ocpp16.status,
    ("ocpp1.6", "StartTransaction"): ocpp16.start,
    ("ocpp1.6", "StopTransaction"): ocpp16.stop,
    ("ocpp1.6", "MeterValues"): ocpp16.meter,
    ("ocpp2.0.1", "BootNotification"): ocpp201.boot,
    ("ocpp2.0.1", "Authorize"): ocpp201.authorize,
    ("ocpp2.0.1", "StatusNotification"): ocpp201.status,
    ("ocpp2.0.1", "TransactionEvent"): ocpp201.transaction_event,
}


def records(path: Path) -> list[object]:
    found = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        frame = unpack(json.dumps(entry["frame"]))
        decode = DECODERS.get((entry["sub"], frame.action)) if isinstance(frame, CallFrame) else None
        if entry["dir"] == "in" and decode is not None and isinstance(frame, CallFrame):
            found.append(decode(frame.payload))
    return found


@pytest.mark.parametrize("path", TRACES or [None], ids=lambda path: path.name if path else "absent")
def test_all_that_was_recorded_is_understood(path: Path | None) -> None:
    if path is None:
        pytest.skip("the shared OCPP recordings are not here")
    found = records(path)
    assert found
    for record in found:
        assert not isinstance(record, BadFrame)
        if isinstance(record, Status):
            assert record.status is not None
        if isinstance(record, Start | Stop | TransactionEvent):
            assert record.time.quality is TimeQuality.GOOD
        if isinstance(record, Start | Stop):
            assert record.meter_wh is not None
        if isinstance(record, Meter | Stop | TransactionEvent):
            for reading in (one for sample in record.samples for one in sample.readings):
                assert (reading.point is not None, reading.value is not None) == (True, True), reading


def test_a_recorded_register_never_goes_down_while_energy_flows() -> None:
    if not TRACES:
        pytest.skip("the shared OCPP recordings are not here")
    registers: dict[tuple[str, int | None], list[tuple[int, Number]]] = {}
    for path in TRACES:
        for meter in (one for one in records(path) if isinstance(one, Meter)):
            for sample in meter.samples:
                told = totals(sample.readings)
                assert told["power_w"] > 0
                assert sample.time.t_us is not None
                pairs = registers.setdefault((path.name, meter.transaction), [])
                pairs.append((sample.time.t_us, told["energy_import_wh"]))
    assert any(len(pairs) > 1 for pairs in registers.values())
    for pairs in registers.values():
        assert [wh for _, wh in sorted(pairs)] == sorted(wh for _, wh in pairs)


# --- quirks ----------------------------------------------------------------------------------------------------------


def quirk(name: str) -> tuple[CallFrame | ResultFrame, Callable[[object], Any]]:
    """The frame of a quirk, and what decodes its payload."""
    file = DATA / "quirks" / "quirks.json"
    if not file.exists():
        pytest.skip("the shared OCPP quirks are not here")
    (entry,) = [one for one in json.loads(file.read_text()) if one["id"] == name]
    raw = entry["raw"].split("]  (")[0]
    frame = unpack(raw if raw.endswith("]") else raw + "]")
    assert isinstance(frame, CallFrame | ResultFrame), frame
    action = frame.action if isinstance(frame, CallFrame) else ""
    return frame, DECODERS.get((entry["subprotocol"], action), lambda payload: payload)


def decoded(name: str) -> Any:  # noqa: ANN401 - each test says what it expects
    frame, decode = quirk(name)
    return decode(frame.payload)


def test_each_quirk_is_held_here() -> None:
    file = DATA / "quirks" / "quirks.json"
    if not file.exists():
        pytest.skip("the shared OCPP quirks are not here")
    for entry in json.loads(file.read_text()):
        record = decoded(entry["id"])
        assert not isinstance(record, BadFrame), entry["id"]


def test_an_unknown_error_code_is_kept() -> None:
    record = decoded("Q01")
    assert isinstance(record, Status)
    assert (record.status, record.error) == ("Faulted", "Error")


def test_a_serial_number_is_kept_whole() -> None:
    frame, decode = quirk("Q02")
    record = decode(frame.payload)
    assert isinstance(record, Boot)
    assert record.details["chargeBoxSerialNumber"] == frame.payload["chargeBoxSerialNumber"]
    assert record.serial == frame.payload["chargePointSerialNumber"]


def test_a_time_without_a_zone_is_marked_and_reservation_0_is_none() -> None:
    frame, _ = quirk("Q03")
    record, local = ocpp16.start(frame.payload), ocpp16.start(frame.payload, ZoneInfo("Asia/Shanghai"))
    assert isinstance(record, Start)
    assert isinstance(local, Start)
    assert (record.time.quality, record.reservation) == (TimeQuality.NO_ZONE, None)
    assert record.time.t_us is not None
    assert local.time.t_us == record.time.t_us - 8 * 3_600_000_000


def test_a_nul_in_a_text_does_no_harm() -> None:
    record = decoded("Q06")
    assert isinstance(record, Boot)
    assert (record.vendor, record.model) == ("wallbe", "Pro")


def test_info_is_not_read() -> None:
    frame, decode = quirk("Q07")
    record = decode(frame.payload)
    assert isinstance(record, Status)
    assert (record.status, record.error, record.info) == ("Finishing", "", frame.payload["info"])


def test_local_time_labelled_utc_is_seen() -> None:
    record = decoded("Q11")
    assert isinstance(record, Status)
    assert record.time.t_us is not None
    arrived_us = record.time.t_us - 2 * 3_600_000_000
    assert judged(record.time, arrived_us, queued=False).quality is TimeQuality.SKEWED
    assert judged(record.time, arrived_us, queued=True).t_us == record.time.t_us


def test_registers_in_kwh_are_wh() -> None:
    (short,) = decoded("Q14").samples
    assert totals(short.readings)["energy_import_wh"] == 10
    (long,) = decoded("Q15").samples
    assert totals(long.readings) == {
        "energy_import_wh": 733255.884,
        "frequency_hz": 49.95,
        "power_factor": -0.147,
        "power_w": 0,
        "temperature_degc": 25,
    }


def test_an_end_without_a_trigger_is_an_end() -> None:
    record = decoded("Q18")
    assert isinstance(record, TransactionEvent)
    assert (record.kind, record.transaction, record.trigger, record.seq_no) == ("Ended", "t2", "", 2)
    assert record.time.t_us == 1_741_593_600_000_000
    assert record.time.quality is TimeQuality.GOOD
    assert ocpp201.transaction_event(quirk("Q18")[0].payload, UTC) == record


def test_empty_texts_are_nothing() -> None:
    record = decoded("Q20")
    assert isinstance(record, Boot)
    assert set(record.details) == {"chargeBoxSerialNumber", "meterType"}
