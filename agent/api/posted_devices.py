"""Devices that clients post, as the list of devices shows them: they have no wire and no entry."""

from collections.abc import Collection, Mapping, Sequence

from agent.api.models import DeviceOut
from agent.api.view import DeviceInfo, GatewayView, SitePorts
from agent.core.errors import StoreError
from agent.core.ports import Latest
from agent.pipeline.health import Health, UnitState

DRIVER = "posted"
#: Some clients post once a day.
SILENT_S = 86_400 * 1.5
_SILENT, _HINT = "nothing has been posted of it for more than a day", "look at the client that posts it"


def posted_ids(view: GatewayView, configured: Collection[str]) -> list[str]:
    """Their names, sorted: who has signals, and is neither configured nor this gateway."""
    own = view.own().id
    return sorted({signal.device for signal in view.signals()} - {own, *configured})


async def posted_latest(ports: SitePorts, devices: Sequence[str]) -> Mapping[str, Sequence[Latest]]:
    """Their newest values; none while the store can't be read."""
    if ports.posted is None or not devices:
        return {}
    try:
        return await ports.posted.latest(devices)
    except StoreError:
        return {}


def posted_info(device: str, latest: Sequence[Latest]) -> DeviceInfo:
    """One of them; its health is how long nothing was posted."""
    ages = [one.age_s for one in latest if one.age_s is not None]
    newest_us = max((one.t_us for one in latest if one.t_us is not None), default=None)
    if newest_us is None or not ages:
        return DeviceInfo(device, DRIVER, None)
    silent = min(ages) > SILENT_S
    state = Health.OFFLINE if silent else Health.ONLINE
    words = (_SILENT, _HINT) if silent else ("", "")
    return DeviceInfo(device, DRIVER, None, UnitState(device, "", state, newest_us, *words, None, 0, min(ages)))


def posted_out(device: str, latest: Sequence[Latest]) -> DeviceOut:
    """The same as JSON."""
    return DeviceOut.of(posted_info(device, latest), latest, "posted")
