"""``/api/system/wear`` and ``/api/system/dropped``: what keeping costs the flash, and what could not be kept."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from agent.api.access import Routes
from agent.api.models import Model, StoreOut
from agent.api.paging import Page, PageSize, needed
from agent.api.times import iso
from agent.api.users import Role
from agent.api.view import GatewayView, SitePorts, StoreBook
from agent.store.dropped import Gone
from agent.store.settings import StoreStats
from agent.store.wear import DAY_US, Wear

_DAYS_A_YEAR = 365.25
_MAX_TB = 1_000_000

Endurance = Annotated[
    float | None,
    Query(gt=0, le=_MAX_TB, description="what the maker says can be written to the medium in its life, in TB"),
]


class WearDayOut(Model):
    """A day's bytes, by what wrote them."""

    day: str = Field(description="UTC, as 2026-11-21")
    bytes: int = Field(description="of all components")
    components: dict[str, int] = Field(description="telemetry, records, upkeep, checkpoint and other")


class WearOut(Model):
    """Bytes that the gateway wrote, as Linux counts them: the file system and the medium write more."""

    since: str | None = Field(description="from when on it was measured; null: never yet")
    bytes_per_day: float | None = Field(description="mean of the last seven days; null before a day has passed")
    components: dict[str, float] = Field(description="the same by what wrote them")
    years: float | None = Field(description="how long the endurance asked about lasts; null without one")
    days: list[WearDayOut] = Field(description="the newest first")

    @classmethod
    def of(cls, wear: Wear, endurance_tb: float | None) -> "WearOut":
        """What is shown of it."""
        mean = wear.bytes_a_day
        days = [
            WearDayOut(day=_date(day), bytes=sum(found.values()), components=dict(found))
            for day, found in sorted(wear.days.items(), reverse=True)
        ]
        return cls(
            since=None if wear.since_us is None else iso(wear.since_us),
            bytes_per_day=mean,
            components=dict(wear.day_bytes),
            years=None if endurance_tb is None or not mean else endurance_tb * 1e12 / mean / _DAYS_A_YEAR,
            days=days,
        )


class DroppedOut(Model):
    """Rows of one signal (null: of all, whose numbers are gone) that were given up for one reason."""

    time: str = Field(description="when the last of them went")
    stream: str = Field(description="whose numbers these are: telemetry")
    signal: str | None = Field(description="full name; null: all signals")
    reason: str = Field(description="docs/storage.md lists them; what begins with `unsent` was not confirmed")
    rows: int = Field(description="how many; 0: they were counted by signal, here are only the numbers")
    oldest: str = Field(description="time of the first of them")
    newest: str = Field(description="time of the last")
    from_seq: int | None = Field(description="first record number; null: the rows had none yet")
    to_seq: int | None = Field(description="last record number")

    @classmethod
    def of(cls, gone: Gone, view: GatewayView) -> "DroppedOut":
        """What is shown of it."""
        signal = None if gone.signal is None else view.signal(str(gone.signal))
        return cls(
            time=iso(gone.t_us),
            stream=gone.stream,
            signal=None if gone.signal is None else str(gone.signal) if signal is None else signal.full_name,
            reason=gone.reason,
            rows=gone.rows,
            oldest=iso(gone.from_us),
            newest=iso(gone.to_us),
            from_seq=gone.from_seq,
            to_seq=gone.to_seq,
        )


def store_out(stats: StoreStats) -> StoreOut:
    """What health says of the store."""
    return StoreOut(
        bytes=stats.db_bytes + stats.wal_bytes,
        quota_bytes=stats.max_bytes,
        ledger_bytes=stats.ledger_bytes,
        evidence_bytes=stats.evidence_bytes,
        lost_rows=stats.lost_rows,
        written_bytes_per_day=stats.written_a_day,
    )


class DroppedPage(Model):
    """A page of the record, newest first."""

    total: int
    page: int
    page_size: int
    lost_rows: int = Field(description="rows that went without having been confirmed, since the store was made")
    items: list[DroppedOut]


def add_store_routes(routes: Routes, view: GatewayView, ports: SitePorts) -> None:
    """Add the routes."""
    one = _StoreRoutes(view, ports)
    more: dict[str, Any] = {"role": Role.VIEWER, "tags": ["system"]}
    routes.add("GET", "/api/system/wear", one.wear, summary="Bytes written to the flash, by day", **more)
    routes.add("GET", "/api/system/dropped", one.dropped, summary="What could not be kept", **more)


class _StoreRoutes:
    def __init__(self, view: GatewayView, ports: SitePorts) -> None:
        self._view = view
        self._ports = ports

    async def wear(self, endurance_tb: Endurance = None) -> WearOut:
        """Tell what was written, as of the last hour, and for how many years the medium lasts at that."""
        return WearOut.of(self._book.wear(), endurance_tb)

    async def dropped(self, page: Page = 1, page_size: PageSize = 100) -> DroppedPage:
        """List what went for its age, for want of space or because it was damaged, newest first."""
        total, rows = await asyncio.to_thread(self._book.dropped, page_size, (page - 1) * page_size)
        items = [DroppedOut.of(row, self._view) for row in rows]
        lost = self._book.stats().lost_rows
        return DroppedPage(total=total, page=page, page_size=page_size, lost_rows=lost, items=items)

    @property
    def _book(self) -> StoreBook:
        return needed(self._ports.store, "a store")


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_US / 1e6, UTC).date().isoformat()
