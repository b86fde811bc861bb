"""Set-up: what is asked, in which order, what is left alone, and what one failure does to the rest."""

import asyncio
import itertools
from collections.abc import Callable, Mapping

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, NoAnswer, Refusal, Unavailable
from drivers.codec.ocpp_model import Boot, Version
from drivers.ocpp.limits import Limits
from drivers.ocpp.operations import Operations
from drivers.ocpp.ports import Payload
from drivers.ocpp.quirks import Quirks
from drivers.ocpp.setup import CLOSE_AGAIN_S, set_up
from drivers.ocpp.setup_measurands import AGAIN_S, BUSY_S, ENERGY, FALLS, PROOF_S
from tests.ocpp_asked import AskedLink, AskedState, accept

#: All that we would set stands already.
RIGHT = {
    "MeterValueSampleInterval": "10",
    "HeartbeatInterval": "60",
    "WebSocketPingInterval": "30",
    "StopTransactionOnInvalidId": "True",
    "AllowOfflineTxForUnknownId": "false",
    "MeterValuesSampledData": ",".join(Quirks().measurands),
    "NumberOfConnectors": "1",
}
Answer = Callable[[str, Payload], Payload]


def _keys(keys: Mapping[str, str], fixed: tuple[str, ...] = (), other: Answer = accept) -> Answer:
    rows = [{"key": key, "readonly": key in fixed, "value": value} for key, value in keys.items()]
    return lambda action, payload: (
        {"configurationKey": rows} if action == "GetConfiguration" else other(action, payload)
    )


class _House:
    def __init__(self, version: Version = Version.V16, quirks: Quirks | None = None, **settings: object) -> None:
        self.clock, self.link = FakeClock(), AskedLink(version)
        self.state = AskedState(self.link, quirks or Quirks(), **settings)
        self.limits = Limits(self.state, self.clock)
        self.operations = Operations(self.state, self.clock)

    async def set_up(self, seconds: float = 300, cut: Callable[[], bool] = lambda: False) -> None:
        task = asyncio.create_task(set_up(self.state, self.limits, self.operations, self.clock))
        for _ in range(round(seconds)):
            for _ in range(20):
                await asyncio.sleep(0)
            if task.done():
                break
            if cut():
                task.cancel()  # as when the connection ends
                break
            self.clock.advance(1)
        else:
            task.cancel()  # the connection is gone, or it takes far too long
        await asyncio.gather(task, return_exceptions=task.cancelling() > 0)

    def run(self) -> None:
        asyncio.run(self.set_up())

    def set_keys(self) -> dict[object, object]:
        return {payload["key"]: payload["value"] for payload in self.link.sent("ChangeConfiguration")}


def test_what_is_right_is_left_alone() -> None:
    house = _House()
    house.link.answer = _keys(RIGHT)
    house.run()
    assert [action for action, _ in house.link.asked] == [
        "SetChargingProfile",
        "GetConfiguration",
        "TriggerMessage",
        "TriggerMessage",
    ]
    assert [payload["requestedMessage"] for payload in house.link.sent("TriggerMessage")] == [
        "StatusNotification",
        "MeterValues",
    ]
    assert [kind for kind, _ in house.state.told] == ["charger.set_up"]


def test_what_is_otherwise_is_set_unless_it_is_fixed_or_unknown() -> None:
    house = _House(quirks=Quirks(skip=("Key.WebSocketPingInterval",)))
    keys = RIGHT | {
        "MeterValueSampleInterval": "900",
        "HeartbeatInterval": "900",
        "WebSocketPingInterval": "0",
        "AllowOfflineTxForUnknownId": "true",
    }
    del keys["StopTransactionOnInvalidId"]
    house.link.answer = _keys(keys, fixed=("HeartbeatInterval",))
    house.run()
    assert house.set_keys() == {"MeterValueSampleInterval": "10", "AllowOfflineTxForUnknownId": "false"}


def test_variables_of_201_are_set_alike() -> None:
    house = _House(Version.V201)
    house.run()  # ``accept`` says 3 to everything
    sent = {
        f"{row['component']['name']}.{row['variable']['name']}": row["attributeValue"]
        for payload in house.link.sent("SetVariables")
        for row in payload["setVariableData"]  # type: ignore[attr-defined]
    }
    assert sent["SampledDataCtrlr.TxUpdatedInterval"] == "10"
    assert sent["AuthCtrlr.OfflineTxForUnknownIdEnabled"] == "false"
    assert sent["SampledDataCtrlr.TxUpdatedMeasurands"] == RIGHT["MeterValuesSampledData"]
    assert "Energy.Active.Import.Register" in sent["SampledDataCtrlr.TxEndedMeasurands"]
    assert house.state.notes["limits"]["max_level"] == 3


def test_a_step_that_fails_ends_none_of_the_others() -> None:
    house = _House()

    def answer(action: str, payload: Payload) -> Payload:
        if action in {"SetChargingProfile", "GetConfiguration", "ChangeConfiguration"}:
            raise CommandRejected(action, Refusal.NOT_CAPABLE, "NotSupported")
        return accept(action, payload)

    house.link.answer = answer
    house.run()
    assert len(house.link.sent("TriggerMessage")) == 2
    told = dict(house.state.told)
    assert told["charger.no_failsafe"] == {"reason": "NotSupported"}
    failed = told["charger.set_up"]["failed"]
    assert isinstance(failed, Mapping)
    assert {"safe limit", "configuration", "MeterValueSampleInterval", "measurands"} <= set(failed)
    house.run()
    assert len(house.state.told) == 2  # nothing new


def test_what_is_wrong_is_told_when_it_changes_and_when_it_ends() -> None:
    house = _House()
    house.link.answer = lambda action, payload: (
        {"status": "Rejected"} if action == "SetChargingProfile" else _keys(RIGHT)(action, payload)
    )
    house.run()
    house.link.answer = _keys(RIGHT)
    house.run()
    reasons = [data["reason"] for kind, data in house.state.told if kind == "charger.no_failsafe"]
    assert len(reasons) == 2
    assert reasons[0]
    assert not reasons[1]


def test_a_charger_that_wants_to_restart_is_told_of_and_not_restarted() -> None:
    house = _House()

    def other(action: str, payload: Payload) -> Payload:
        return {"status": "RebootRequired"} if action == "ChangeConfiguration" else accept(action, payload)

    house.link.answer = _keys(RIGHT | {"HeartbeatInterval": "900"}, other=other)
    house.run()
    assert dict(house.state.told)["charger.set_up"]["reboot_required"] == ["HeartbeatInterval"]
    assert not house.link.sent("Reset")


def test_another_number_of_outlets_is_told() -> None:
    house = _House(outlets=2)
    house.link.answer = _keys(RIGHT)
    house.run()
    house.run()
    assert [kind for kind, _ in house.state.told].count("charger.mismatch") == 1


def test_measurands_are_tried_one_at_a_time_and_not_again() -> None:
    house = _House()

    def other(action: str, payload: Payload) -> Payload:
        return {"status": "Rejected" if "SoC" in str(payload) else "Accepted"}

    keys = RIGHT | {"MeterValuesSampledData": "Voltage", "MeterValuesSampledDataMaxLength": "5"}
    house.link.answer = _keys(keys, other=other)
    house.run()
    tried = [str(payload["value"]).split(",") for payload in house.link.sent("ChangeConfiguration")]
    assert [len(one) for one in tried] == [1, 2, 3, 4, 5]
    assert all(longer[: len(shorter)] == shorter for shorter, longer in itertools.pairwise(tried))
    note = house.state.notes["measurands"]
    assert (note["works"], "trying" in note) == (tried[-1], False)
    del house.link.asked[:]
    house.run()  # it forgot them: they are set as one
    assert [payload["value"] for payload in house.link.sent("ChangeConfiguration")] == [",".join(tried[-1])]
    house.link.answer = _keys(keys | {"MeterValuesSampledData": ",".join(tried[-1])}, other=other)
    del house.link.asked[:]
    house.run()
    assert not house.link.sent("ChangeConfiguration")


ALL = list(Quirks().measurands)
EMPTY = _keys(RIGHT | {"MeterValuesSampledData": ""})


def _cut(house: _House, seconds: float, firmware: str = "1.0") -> None:
    """Set up; after so long the connection is lost, and the charger boots."""
    asyncio.run(house.set_up(seconds))
    house.state.boot = Boot("Acme", "One", firmware=firmware)


@pytest.mark.parametrize("seconds", [3, 8, 23, 37, PROOF_S, PROOF_S + 30])
@pytest.mark.parametrize("who", ["charger", "gateway"])
def test_a_restart_in_the_middle_of_set_up_costs_no_measurand(seconds: float, who: str) -> None:
    house = _House()
    house.link.answer = EMPTY
    _cut(house, seconds)
    assert house.state.notes["measurands"]["trying"]
    if who == "gateway":
        house.operations = Operations(house.state, house.clock)
    house.run()
    assert house.state.notes["measurands"] == {"of": "Acme|One|1.0", "works": ALL}
    assert house.set_keys()["MeterValuesSampledData"] == ",".join(ALL)


def test_a_gateway_that_restarts_again_and_again_blames_nobody() -> None:
    house = _House()
    house.link.answer = EMPTY
    for _ in range(5):
        _cut(house, PROOF_S)
        house.operations = Operations(house.state, house.clock)
    house.run()
    assert house.state.notes["measurands"] == {"of": "Acme|One|1.0", "works": ALL}


def test_one_that_restarts_twice_soon_after_is_asked_for_the_energy_only() -> None:
    house = _House()
    house.link.answer = EMPTY
    for _ in range(FALLS):
        _cut(house, PROOF_S)  # cut off in the proof, which begins after those
    del house.link.asked[:]
    house.run()
    assert house.set_keys() == {"MeterValuesSampledData": ENERGY}
    failed = dict(house.state.told)["charger.set_up"]["failed"]
    assert failed == {"measurands": f"it fell over {', '.join(sorted(set(ALL) - {ENERGY}))}"}


def _falls_over(house: _House, bad: str) -> int:
    """Set up until the connection lasts, with a charger that restarts when it is to send this; how often it did."""
    restarts, fallen = 0, False

    def answer(action: str, payload: Payload) -> Payload:
        nonlocal fallen
        fallen |= action == "ChangeConfiguration" and bad in str(payload["value"])
        return EMPTY(action, payload)

    def cut() -> bool:
        return fallen

    house.link.answer = answer
    while True:
        asyncio.run(house.set_up(cut=cut))
        if not fallen:
            return restarts
        restarts, fallen = restarts + 1, False
        house.state.boot = Boot("Acme", "One", firmware="1.0")
        assert restarts < 30


def test_what_it_falls_over_is_left_out_and_tried_again_three_times_at_most() -> None:
    house = _House()
    restarts = [_falls_over(house, "Voltage")]
    assert house.state.notes["measurands"]["works"] == [one for one in ALL if one != "Voltage"]
    for wait_s in (*AGAIN_S, AGAIN_S[-1]):
        house.clock.advance(wait_s / 2)
        restarts.append(_falls_over(house, "Voltage"))
        house.clock.advance(wait_s / 2)
        restarts.append(_falls_over(house, "Voltage"))
    assert restarts == [FALLS, *(0, FALLS) * len(AGAIN_S), 0, 0]


def test_what_was_left_out_by_accident_comes_back_on_an_open_connection_when_no_vehicle_charges() -> None:
    house = _House()
    _falls_over(house, "Voltage")
    house.link.answer = EMPTY
    house.state.transactions[1] = "7"

    async def run() -> float | None:
        task = asyncio.create_task(set_up(house.state, house.limits, house.operations, house.clock))
        while not task.done():
            await asyncio.sleep(0)
            house.clock.advance(1)
        return task.result()

    again_s = asyncio.run(run())
    assert again_s is not None
    assert AGAIN_S[0] - 600 < again_s <= AGAIN_S[0]
    house.clock.advance(again_s)
    assert asyncio.run(run()) == BUSY_S
    assert "Voltage" not in house.state.notes["measurands"]["works"]  # type: ignore[operator]
    house.state.transactions.clear()
    assert asyncio.run(run()) is None
    assert house.state.notes["measurands"] == {"of": "Acme|One|1.0", "works": ALL, "rounds": 1}
    assert dict(house.state.told)["charger.set_up"]["failed"] == {}


@pytest.mark.parametrize("answered", [True, False])
def test_what_an_earlier_version_blamed_is_tried_again_once_and_what_is_refused_stays_out(answered: bool) -> None:  # noqa: FBT001 - a case
    house = _House()
    house.state.notes["measurands"] = {"of": "Acme|One|1.0", "bad": sorted(set(ALL) - {ENERGY}), "works": [ENERGY]}

    def other(action: str, payload: Payload) -> Payload:
        if "SoC" not in str(payload):
            return {"status": "Accepted"}
        if answered:
            return {"status": "Rejected"}
        raise CommandRejected(action, Refusal.DEVICE_REFUSED, "PropertyConstraintViolation")

    house.link.answer = _keys(RIGHT | {"MeterValuesSampledData": ENERGY}, other=other)
    house.run()
    works = [one for one in ALL if one != "SoC"]
    note = {"of": "Acme|One|1.0", "works": works, "refused": ["SoC"], "rounds": 1}
    assert house.state.notes["measurands"] == note
    house.link.answer = _keys(RIGHT | {"MeterValuesSampledData": ",".join(works)}, other=other)
    del house.link.asked[:]
    house.clock.advance(sum(AGAIN_S))
    house.run()
    assert not house.link.sent("ChangeConfiguration")


def test_one_that_falls_silent_twice_over_the_same_is_not_asked_for_it_again() -> None:
    house = _House()

    def other(action: str, payload: Payload) -> Payload:
        if "Voltage" in str(payload):
            raise NoAnswer("call", "nothing in 30 s")
        return accept(action, payload)

    house.link.answer = _keys(RIGHT | {"MeterValuesSampledData": ""}, other=other)
    for _ in range(FALLS):
        _cut(house, 300)  # it boots some time later, which is no fall
    assert house.state.notes["measurands"]["fell"] == ["Voltage"]
    house.run()
    assert house.state.notes["measurands"]["works"] == [one for one in ALL if one != "Voltage"]


def test_another_firmware_is_tried_from_the_beginning() -> None:
    house = _House()
    _falls_over(house, "Voltage")
    house.state.boot = Boot("Acme", "One", firmware="1.1")
    house.link.answer = EMPTY
    house.run()
    assert house.state.notes["measurands"] == {"of": "Acme|One|1.1", "works": ALL}


def test_the_energy_register_is_not_given_up_by_a_boot() -> None:
    house = _House()
    house.link.answer = EMPTY
    for _ in range(FALLS + 1):
        _cut(house, 3)  # cut off while the first one, the energy, is tried
        assert house.state.notes["measurands"]["trying"] == [ENERGY]
    house.run()
    assert house.state.notes["measurands"]["works"] == ALL


def test_one_that_only_connects_again_is_not_blamed() -> None:
    house = _House()
    house.link.answer = EMPTY
    for _ in range(FALLS + 1):
        asyncio.run(house.set_up(12))
    house.run()
    assert house.state.notes["measurands"]["works"] == ALL


def test_a_charger_that_answers_nothing_is_closed_once_in_a_while() -> None:
    house = _House()

    def silent(*_: object) -> Payload:
        raise NoAnswer("call", "nothing in 30 s")

    house.link.answer = silent
    house.run()
    assert house.link.closed is not None
    assert len(house.link.asked) == 2
    house.state.connection = house.link = AskedLink(answer=silent)
    house.run()
    assert house.link.closed is None
    house.clock.advance(CLOSE_AGAIN_S)
    house.run()
    assert house.link.closed is not None


@pytest.mark.parametrize("steps", range(6))
def test_a_connection_that_goes_ends_it_quietly(steps: int) -> None:
    house = _House()

    def answer(action: str, payload: Payload) -> Payload:
        if len(house.link.asked) > steps:
            raise Unavailable("call", "the connection is gone")
        return accept(action, payload)

    house.link.answer = answer
    house.run()
    assert len(house.link.asked) == steps + 1


def test_without_a_connection_nothing_is_asked() -> None:
    house = _House()
    house.state.connection = None
    house.run()
    assert not house.link.asked
