"""The simulated outlet, and the charger that speaks Modbus for it."""

import asyncio

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse
from pymodbus.server import ModbusTcpServer

from agent.core.clock import FakeClock
from drivers.sim.charger_modbus import READ_FROM, SimulatedCharger
from drivers.sim.evse import Evse, Pilot


def charging(evse: Evse) -> Evse:
    """The outlet once its vehicle draws all that it wants."""
    while evse.pilot is not Pilot.C:
        evse.step(1)
    evse.step(20)
    return evse


def test_a_vehicle_comes_waits_charges_and_leaves() -> None:
    evse = Evse(seed=3)
    seen: list[Pilot] = []
    for _ in range(1200):
        evse.step(1)
        if not seen or seen[-1] is not evse.pilot:
            seen.append(evse.pilot)
    assert seen[:5] == [Pilot.A, Pilot.B, Pilot.C, Pilot.B, Pilot.A]


def test_the_current_follows_the_limit_and_energy_is_its_integral() -> None:
    evse = charging(Evse())
    before_a = evse.current_a
    evse.tell_limit(8)
    evse.step(1)
    assert evse.current_a == 8 < before_a
    wh = evse.total_wh
    evse.step(60)
    assert evse.total_wh - wh == pytest.approx(evse.power_w / 60, rel=0.02)
    evse.tell_limit(5)
    evse.step(1)
    assert (evse.current_a, evse.power_w, evse.pilot) == (0, 0, Pilot.B)


def test_without_a_message_it_falls_back_by_itself() -> None:
    evse = charging(Evse())
    evse.tell_limit(10)
    evse.timeout_s = 30
    evse.step(30)
    assert evse.limit_a == 10
    evse.step(1)
    assert evse.limit_a == evse.failsafe_a == 6
    evse.hear()
    assert evse.limit_a == 10


def test_switched_off_it_offers_nothing() -> None:
    evse = charging(Evse())
    evse.enabled = False
    evse.step(1)
    assert (evse.offered_a, evse.current_a, evse.pilot) == (0, 0, Pilot.B)


@pytest.mark.announced_warnings
def test_it_answers_over_modbus_and_refuses_what_it_does_not_have() -> None:
    clock = FakeClock()
    charger = SimulatedCharger(charging(Evse()), clock)

    async def talk() -> None:
        server = ModbusTcpServer(charger.device(1), address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        assert server.transport is not None
        port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        client = AsyncModbusTcpClient("127.0.0.1", port=port, reconnect_delay=0)
        try:
            await client.connect()
            await client.write_registers(0x4100, [0, 7500])
            await client.write_register(0x4106, 60)
            clock.advance(2)
            words = (await client.read_holding_registers(READ_FROM, count=32)).registers
            assert words[14:16] == [0, 7500]
            assert 7_000 < words[17] <= 7_550
            assert words[13] == 4 << 8
            assert charger.evse.timeout_s == 60
            refused = await client.write_registers(0x4100, [1, 0])
            assert isinstance(refused, ExceptionResponse)
            assert refused.exception_code == ExcCodes.ILLEGAL_VALUE
            absent = await client.read_holding_registers(0x4020, count=1)
            assert isinstance(absent, ExceptionResponse)
            assert absent.exception_code == ExcCodes.ILLEGAL_ADDRESS
        finally:
            client.close()
            await server.shutdown()  # type: ignore[no-untyped-call]

    asyncio.run(talk())
