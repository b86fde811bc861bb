"""What the watchman is told of a running site: who must live, whether it is ready, and how it is in one line."""

from collections.abc import Iterator

from agent.alive import Sign, Vitals
from agent.control.alarm_model import AlarmState
from agent.core.clock import Clock
from agent.pipeline.health import Health
from agent.running import Running
from agent.store.db import Store


def vitals_of(running: Running, store: Store, clock: Clock) -> Vitals:
    """The vitals of a site whose parts are started."""

    def signs() -> list[Sign]:
        ticked_s = running.control.ticked_s
        control = None if ticked_s is None else clock.monotonic_s() - ticked_s
        return [("the store's writer", store.idle_s()), ("control", control), *running.supervisor.signs()]

    def missing() -> str:
        return "; ".join(_missing(running))

    return Vitals(signs, missing, lambda: ", ".join(_status(running)))


def _missing(running: Running) -> Iterator[str]:
    if running.control.ticked_s is None:
        yield "control"
    if running.api is None or running.api.address is None:
        error = next((part.last_error for part in running.supervisor.parts() if part.name == "api"), "")
        yield f"the API ({error})" if error else "the API"


def _status(running: Running) -> Iterator[str]:
    devices = running.overview.devices()
    online = sum(one.state is Health.ONLINE for one in devices)
    yield f"{online} of {len(devices)} devices online"
    if running.overview.has_uplink:
        uplink = running.overview.uplink
        yield "uplink connected" if uplink is not None and uplink.status().connected else "uplink not connected"
    alarms = sum(one.state is not AlarmState.NORMAL for one in running.control.alarms.alarms() if one.spec.is_alarm)
    yield "no alarms" if not alarms else "1 alarm" if alarms == 1 else f"{alarms} alarms"
    yield from (
        f"{part.name}: {part.detail}" for part in running.overview.health() if not part.ok and part.name == "db"
    )
