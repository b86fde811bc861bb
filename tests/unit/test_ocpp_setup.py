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
from drivers.ocpp.setup_measurands import PROOF_S
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

    async def set_up(self, seconds: float = 300) -> None:
        task = asyncio.create_task(set_up(self.state, self.limits, self.operations, self.clock))
        for _ in range(round(seconds)):
            for _ in range(20):
                await asyncio.sleep(0)
            if task.done():
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


def test_one_that_restarts_soon_after_is_asked_for_the_energy_only() -> None:
    house = _House()
    house.link.answer = _keys(RIGHT | {"MeterValuesSampledData": ""})
    asyncio.run(house.set_up(PROOF_S))  # cut off in the proof, which begins after those
    assert house.state.notes["measurands"]["trying"]
    house.state.boot = Boot("Acme", "One", firmware="1.0")
    del house.link.asked[:]
    house.run()
    assert house.set_keys() == {"MeterValuesSampledData": "Energy.Active.Import.Register"}


def test_the_energy_register_is_not_given_up_by_a_boot() -> None:
    house = _House()
    house.link.answer = _keys(RIGHT | {"MeterValuesSampledData": ""})
    asyncio.run(house.set_up(3))  # cut off while the first one, the energy, is tried
    assert house.state.notes["measurands"]["trying"] == ["Energy.Active.Import.Register"]
    house.state.boot = Boot("Acme", "One", firmware="1.0")
    house.run()
    assert house.state.notes["measurands"]["works"] == list(Quirks().measurands)


def test_one_that_only_connects_again_is_not_blamed() -> None:
    house = _House()
    house.link.answer = _keys(RIGHT | {"MeterValuesSampledData": ""})
    asyncio.run(house.set_up(12))
    house.run()
    assert house.state.notes["measurands"]["works"] == list(Quirks().measurands)


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
