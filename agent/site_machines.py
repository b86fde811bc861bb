"""What the configuration and its profiles say of each device, for the list of machines."""

from collections.abc import Iterable

from agent.config import CanDevice, OcppDevice, SerialMeterDevice
from agent.devices import Prepared
from agent.insight.machines import Facts
from agent.modbus_loader import LoadedModbusProfile
from agent.profiles import CanProfile
from drivers.modbus.settings import ModbusUrl

#: Who has this point is a battery: profiles on CAN do not say what they are.
_BATTERY = "soc_pct"


def facts_of(prepared: Iterable[Prepared]) -> dict[str, Facts]:
    """The facts of the configured devices, by id, in the order of the configuration."""
    return {one.configured.id: _facts(one) for one in prepared}


def named(one: Prepared) -> tuple[str, str, str]:
    """Name, model and address of a configured device, for people. No secrets."""
    device = one.configured
    if isinstance(device, OcppDevice):
        return device.name, "", device.charge_point_id
    if isinstance(device, SerialMeterDevice):
        return device.name, device.protocol, device.port
    if isinstance(device, CanDevice):
        bus = device.channel if device.interface == "socketcan" else f"{device.interface}:{device.channel}"
        return device.name, device.profile or ", ".join(device.dbc), bus
    unit = f" unit {one.device[0].unit_id}" if isinstance(one.device, tuple) else ""
    return device.name, device.profile, f"{ModbusUrl.parse(device.url).name}{unit}"


def _facts(one: Prepared) -> Facts:
    device, profile = one.configured, one.profile
    name = device.name or None
    if isinstance(device, OcppDevice):
        return Facts(name=name, type="charger")
    if isinstance(device, SerialMeterDevice):
        return Facts(name=name, type="meter")
    if isinstance(device, CanDevice):
        battery = isinstance(profile, CanProfile) and any(point.point == _BATTERY for point in profile.points)
        return Facts(name=name, type="battery" if battery else "other", model=device.profile)
    if isinstance(profile, LoadedModbusProfile):
        file = profile.file
        return Facts(name=name, type=file.kind, maker=file.maker, model=file.model)
    # SunSpec: the device says at run time what it is.
    return Facts(name=name, type=device.part or "inverter")
