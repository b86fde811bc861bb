"""``/api/load`` and ``/api/notify``: how the site's connection is shared, and who is told of alarms."""

from http import HTTPStatus
from typing import Any

from fastapi import HTTPException
from pydantic import Field

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth
from agent.api.models import Model
from agent.api.paging import DeviceId, needed
from agent.api.times import iso
from agent.api.users import Role
from agent.api.view import SitePorts
from agent.control.load_model import LoadStatus, PhaseLoad, StationLoad
from agent.core.errors import CommandRejected
from agent.core.ports import ChannelStatus


class PhaseOut(Model):
    """One phase of the grid connection, in A."""

    limit_a: float
    measured_a: float = Field(description="what the meter says, positive = drawn from the grid")
    rest_a: float = Field(description="what is neither a station's nor sure not to come back")
    left_a: float = Field(description="what is left for all stations together, the margin taken off")
    stations_a: float = Field(description="what the stations on it may draw together by their limits")

    @classmethod
    def of(cls, phase: PhaseLoad) -> "PhaseOut":
        """A phase as JSON."""
        return cls(
            limit_a=phase.limit_a,
            measured_a=phase.measured_a,
            rest_a=phase.rest_a,
            left_a=phase.left_a,
            stations_a=phase.stations_a,
        )


class StationLoadOut(Model):
    """One station's share, in A per phase."""

    station: str
    need: str = Field(description="whether a vehicle wants energy there")
    limit_a: float | None = Field(description="null: nothing was decided yet")
    drawn_a: float | None = Field(description="on its most loaded phase; null: not known")
    follows: bool
    reason: str

    @classmethod
    def of(cls, one: StationLoad) -> "StationLoadOut":
        """A station's share as JSON."""
        return cls(
            station=one.station,
            need=one.need.name.lower(),
            limit_a=one.limit_a,
            drawn_a=one.drawn_a,
            follows=one.follows,
            reason=one.reason,
        )


class LoadOut(Model):
    """Load management as it is now."""

    managed: bool = Field(description="false: the site has no `load_management:`; all else is empty then")
    meter: str = ""
    meter_silent: bool = Field(False, description="the meter tells nothing, and each station has its fail-safe limit")
    meter_age_s: float | None = Field(None, description="null: never heard")
    note: str = Field("", description="how the currents of the phases were found where they are not measured")
    phases: list[PhaseOut] = Field(default_factory=list)
    stations: list[StationLoadOut] = Field(default_factory=list)
    batteries_silent: list[str] = Field(
        default_factory=list, description="batteries whose discharge counts for nothing"
    )

    @classmethod
    def of(cls, status: LoadStatus | None) -> "LoadOut":
        """The status as JSON."""
        if status is None:
            return cls(managed=False)
        return cls(
            managed=True,
            meter=status.meter,
            meter_silent=status.silent,
            meter_age_s=status.meter_age_s,
            note=status.note,
            phases=[PhaseOut.of(one) for one in status.phases],
            stations=[StationLoadOut.of(one) for one in status.stations],
            batteries_silent=list(status.batteries_silent),
        )


class ChannelOut(Model):
    """A channel of `notify:`."""

    id: str
    addresses: int
    waiting: int = Field(description="news that wait, of all its addresses")
    sent: int = Field(description="messages that were taken, since the start")
    failures: int = Field(description="tries that failed, since the start")
    dropped: int = Field(description="news that were never told")
    last_error: str = Field(description="empty while all addresses work")
    last_sent: str | None
    next_try_in_s: float | None = Field(description="null: nothing waits")

    @classmethod
    def of(cls, one: ChannelStatus) -> "ChannelOut":
        """A channel as JSON."""
        return cls(
            id=one.id,
            addresses=one.addresses,
            waiting=one.waiting,
            sent=one.sent,
            failures=one.failures,
            dropped=one.dropped,
            last_error=one.last_error,
            last_sent=None if one.last_sent_us is None else iso(one.last_sent_us),
            next_try_in_s=one.next_try_in_s,
        )


class ChannelsOut(Model):
    """All channels, in the order of the configuration."""

    items: list[ChannelOut]


class TestOut(Model):
    """What came of a test message."""

    sent: bool
    error: str = Field(description="why not, of each address that did not take it")


def add_load_routes(routes: Routes, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _LoadRoutes(ports, auth)
    summary = "How the grid connection is shared among the stations"
    routes.add("GET", "/api/load", one.load, Role.VIEWER, summary=summary, tags=["stations"])
    tag: dict[str, Any] = {"tags": ["alarms"]}
    routes.add("GET", "/api/notify", one.channels, Role.OPERATOR, summary="List who is told of alarms", **tag)
    path = "/api/notify/{channel_id}/test"
    routes.add("POST", path, one.test, Role.ADMIN, summary="Send a test message", **tag)


class _LoadRoutes:
    def __init__(self, ports: SitePorts, auth: Auth) -> None:
        self._ports = ports
        self._auth = auth

    async def load(self) -> LoadOut:
        """The limit, the measured currents and what is left of each phase; each station's share and why."""
        return LoadOut.of(needed(self._ports.load, "load management")())

    async def channels(self) -> ChannelsOut:
        """Each channel with what waits, what was sent and what went wrong. Addresses are never shown."""
        return ChannelsOut(items=[ChannelOut.of(one) for one in needed(self._ports.notify, "notifications").status()])

    async def test(self, channel_id: DeviceId, caller: CallerOf) -> TestOut:
        """Send a message to each address of a channel, and wait up to 45 s for what comes of it."""
        try:
            error = await needed(self._ports.notify, "notifications").test(channel_id)
        except CommandRejected as refused:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no channel {channel_id!r}") from refused
        self._auth.audit(caller.name, "test channel", channel_id, error or "sent")
        return TestOut(sent=not error, error=error)
