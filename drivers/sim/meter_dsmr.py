"""A simulated grid meter with a P1 port: ``python -m drivers.sim.meter_dsmr --port-link PATH``.

It pushes DSMR 5 telegrams (P1 companion standard 5.0.2, section 6) once a second: the grid connection of the simulated
house, and its gas meter.
"""

import sys
from collections.abc import Sequence

from drivers.sim.meter_house import House
from drivers.sim.meter_port import run_meter

LINE = (115_200, "8N1")
EVERY_S = 1.0
_EQUIPMENT = "ESIM0000000000001"
_GAS_EQUIPMENT = "GSIM0000000000002"
_POLYNOMIAL = 0xA001  #: x^16 + x^15 + x^2 + 1, least significant bit first (section 6.2)


def telegram(now_us: int) -> bytes:
    """The telegram of that moment, µs UTC."""
    house = House(now_us)
    low_wh, normal_wh = house.energy_wh
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
        "1-0:2.8.1(000000.000*kWh)",
        "1-0:2.8.2(000000.000*kWh)",
        f"0-0:96.14.0({1 if house.low_tariff else 2:04d})",
        f"1-0:1.7.0({house.power_w / 1000:06.3f}*kW)",
        "1-0:2.7.0(00.000*kW)",
        "0-0:96.7.21(00004)",
        "0-0:96.7.9(00002)",
        "1-0:99.97.0()",
        *(f"1-0:{c}.32.0(00000)" for c in (32, 52, 72)),
        *(f"1-0:{c}.36.0(00000)" for c in (32, 52, 72)),
        "0-0:96.13.0()",
        *(f"1-0:{c}.7.0({volt:05.1f}*V)" for c, volt in zip((32, 52, 72), house.voltages_v, strict=True)),
        *(
            f"1-0:{c}.7.0({round(phase_w / volt):03d}*A)"
            for c, phase_w, volt in zip((31, 51, 71), house.phases_w, house.voltages_v, strict=True)
        ),
        *(f"1-0:{c}.7.0({phase_w / 1000:06.3f}*kW)" for c, phase_w in zip((21, 41, 61), house.phases_w, strict=True)),
        *(f"1-0:{c}.7.0(00.000*kW)" for c in (22, 42, 62)),
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
    return run_meter("meter_dsmr", telegram, LINE, arguments, EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
