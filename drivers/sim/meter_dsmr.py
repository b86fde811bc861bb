"""A simulated grid meter with a P1 port: ``python -m drivers.sim.meter_dsmr --port-link PATH``.

It pushes DSMR 5 telegrams (P1 companion standard 5.0.2, section 6) once a second: the grid connection of the simulated
house, and its gas meter.
"""

import sys
from collections.abc import Sequence

from drivers.sim.directed import Report
from drivers.sim.meter_house import Connection, House
from drivers.sim.meter_port import Directed, run_meter

LINE = (115_200, "8N1")
EVERY_S = 1.0
_EQUIPMENT = "ESIM0000000000001"
_GAS_EQUIPMENT = "GSIM0000000000002"
_POLYNOMIAL = 0xA001  #: x^16 + x^15 + x^2 + 1, least significant bit first (section 6.2)


class GridMeter:
    """The meter of a connection where more is drawn than the house does."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._before: Sequence[float] | None = None

    def resume(self, beside_wh: Sequence[float]) -> None:
        """Go on where an earlier run of the same meter ended. To be told before the first telegram."""
        self._before = beside_wh

    def draw(self, power_w: Sequence[float]) -> None:
        """So much is drawn beside the house, by phase in W."""
        if self._connection is not None:
            self._connection.draw(power_w)

    def telegram(self, now_us: int) -> bytes:
        """The telegram of that moment, µs UTC."""
        if self._connection is None:
            self._connection = Connection(now_us, *([] if self._before is None else [self._before]))
        self._connection.step(now_us)
        return telegram_of(self._connection)

    def report(self) -> Report:
        """How it is, for who directs it."""
        connection = self._connection
        return {} if connection is None else {"grid_w": connection.phases_w, "beside_wh": connection.beside_wh}


def telegram(now_us: int) -> bytes:
    """The telegram of that moment, µs UTC, where nobody but the house draws."""
    return telegram_of(House(now_us))


def telegram_of(house: House | Connection) -> bytes:
    """The telegram of a moment."""
    (low_wh, normal_wh), (low_out_wh, normal_out_wh) = house.energy_wh, house.exported_wh
    stamp = f"{house.local:%y%m%d%H%M%S}W"
    gas = house.local
    gas_stamp = f"{gas.replace(minute=gas.minute // 5 * 5, second=0):%y%m%d%H%M%S}W"
    lines = [
        "/ENL5\\2SIMULATED METER",
        "",
        "1-3:0.2.8(50)",
        f"0-0:1.0.0({stamp})",
        f"0-0:96.1.1({_EQUIPMENT.encode().hex().upper()})",
        f"1-0:1.8.1({low_wh / 1000:010.3f}*kWh)",
        f"1-0:1.8.2({normal_wh / 1000:010.3f}*kWh)",
        f"1-0:2.8.1({low_out_wh / 1000:010.3f}*kWh)",
        f"1-0:2.8.2({normal_out_wh / 1000:010.3f}*kWh)",
        f"0-0:96.14.0({1 if house.low_tariff else 2:04d})",
        f"1-0:1.7.0({max(house.power_w, 0.0) / 1000:06.3f}*kW)",
        f"1-0:2.7.0({max(-house.power_w, 0.0) / 1000:06.3f}*kW)",
        "0-0:96.7.21(00004)",
        "0-0:96.7.9(00002)",
        "1-0:99.97.0()",
        *(f"1-0:{c}.32.0(00000)" for c in (32, 52, 72)),
        *(f"1-0:{c}.36.0(00000)" for c in (32, 52, 72)),
        "0-0:96.13.0()",
        *(f"1-0:{c}.7.0({volt:05.1f}*V)" for c, volt in zip((32, 52, 72), house.voltages_v, strict=True)),
        *(
            f"1-0:{c}.7.0({round(abs(phase_w) / volt):03d}*A)"
            for c, phase_w, volt in zip((31, 51, 71), house.phases_w, house.voltages_v, strict=True)
        ),
        *(
            f"1-0:{c}.7.0({max(phase_w, 0.0) / 1000:06.3f}*kW)"
            for c, phase_w in zip((21, 41, 61), house.phases_w, strict=True)
        ),
        *(
            f"1-0:{c}.7.0({max(-phase_w, 0.0) / 1000:06.3f}*kW)"
            for c, phase_w in zip((22, 42, 62), house.phases_w, strict=True)
        ),
        "0-1:24.1.0(003)",
        f"0-1:96.1.0({_GAS_EQUIPMENT.encode().hex().upper()})",
        f"0-1:24.2.1({gas_stamp})({house.gas_m3:09.3f}*m3)",
        "!",
    ]
    body = "\r\n".join(lines).encode()
    return body + f"{crc16(body):04X}\r\n".encode()


def crc16(data: bytes) -> int:
    """CRC16 of all characters from ``/`` to ``!`` (section 6.2): begins with 0, no final change."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL if crc & 1 else crc >> 1
    return crc


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    meter = GridMeter()
    directed = Directed({"draw": meter.draw}, meter.report, meter.resume)
    return run_meter("meter_dsmr", meter.telegram, LINE, arguments, EVERY_S, directed)


if __name__ == "__main__":
    sys.exit(main())
