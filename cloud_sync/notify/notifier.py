"""Who is told of alarms: channels, each a file of addresses, and when each address is told what.

Rules of this file:

1. ``hear`` returns at once and never waits. Each address has its own news (``news.py``), its own rhythm and its
   own faults: one that hangs does not keep another from being told.
2. News wait ``GATHER_S``, so that one cause makes one message. Then one message in ``every_s`` at most; what comes
   meanwhile goes into the next. A critical alarm waits for that limit ``HURRY_S`` at most, unless the same alarm was
   told within ``every_s``: then it flutters, and one message in ``every_s`` has to do.
3. What can't be sent is tried again after 5 s, doubled up to 5 min, with what is newest by then; a critical alarm that
   comes meanwhile tries after ``HURRY_S``. News are kept in memory, for a day: the ledger and MQTT have them for ever.
4. Both edges of a fault are told once: in the log, and on the ledger as ``notify.failed`` and ``notify.back``.
5. Addresses come from the channel's file alone, which is read again every ``LOOK_S``. An address that is new takes over
   what one that is gone was not told: it may have been written wrongly. Of an address nothing is told but its line's
   number and its scheme.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from zoneinfo import ZoneInfo

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Event
from agent.core.ports import ChannelStatus
from cloud_sync.notify import send as sending
from cloud_sync.notify.channel import Channel, ChannelSettings, read_addresses
from cloud_sync.notify.news import compose, hushes, news_of
from cloud_sync.notify.send import Message
from cloud_sync.notify.target import Target

__all__ = ["ChannelSettings", "Notifier", "Send"]

_log = logging.getLogger(__name__)

LOOK_S = 5.0
#: Sending takes a process of 50 MB each.
MAX_SENDING = 2

#: Sends a message to an address; empty when it was taken, else why not.
Send = Callable[[str, Message], Awaitable[str]]


class Notifier:
    """Tells people of alarms. ``record`` puts an event on the ledger; ``zone`` is the site's IANA time zone.

    Give it the gateway's events by ``hear`` and let it ``run`` as a part. What waits survives a restart of the part
    and ``apply``, not one of the process.
    """

    def __init__(
        self,
        channels: Sequence[ChannelSettings],
        clock: Clock,
        record: Callable[[Event], object],
        site_name: str,
        zone: str = "UTC",
        send: Send = sending.send,
    ) -> None:
        self._clock = clock
        self._record = record
        self._send = send
        self._channels: list[Channel] = []
        self._site = ""
        self._zone = ZoneInfo("UTC")
        self._wake = asyncio.Event()
        self._sending: dict[asyncio.Task[None], Target] = {}
        self.apply(channels, site_name, zone)

    def apply(self, channels: Sequence[ChannelSettings], site_name: str, zone: str = "UTC") -> None:
        """These are the channels from now on. One whose id stays keeps what waits."""
        known = {one.settings.id: one for one in self._channels}
        self._channels = [known.get(one.id) or Channel(one) for one in channels]
        for channel, settings in zip(self._channels, channels, strict=True):
            channel.settings = settings
        self._site, self._zone = site_name, ZoneInfo(zone)
        self._wake.set()

    def hear(self, event: Event) -> None:
        """An event of the gateway. Returns at once, never raises; whatever is no alarm's edge is passed over."""
        if hushes(event):
            for target in [one for channel in self._channels for one in channel.targets]:
                target.waiting.forget(event.subject)
        news = news_of(event, self._clock.monotonic_s())
        if news is None:
            return
        for channel in self._channels:
            if channel.wants(news, event):
                for target in channel.targets:
                    target.add(news, returns=channel.settings.returns)
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                self._wake.clear()
                for channel in list(self._channels):
                    await self._look(channel)
                for task in [one for one in self._sending if one.done()]:
                    del self._sending[task]
                    task.result()
                self._start_due()
                await self._until(self._next_s())
        finally:
            tasks, self._sending = list(self._sending), {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> list[ChannelStatus]:
        """The channels, in the order of the configuration."""
        return [one.status(self._clock.monotonic_s()) for one in self._channels]

    async def test(self, channel_id: str) -> str:
        """Send a test message to each address of a channel now; empty when all took it, else which did not and why.

        Raises ``CommandRejected`` (``not_capable``): there is no such channel.
        """
        channel = next((one for one in self._channels if one.settings.id == channel_id), None)
        if channel is None:
            hint = "its channels are " + (", ".join(one.settings.id for one in self._channels) or "none: see notify:")
            raise CommandRejected(f"test {channel_id}", Refusal.NOT_CAPABLE, "there is no such channel", hint)
        await self._look(channel)
        if channel.fault:
            return channel.fault
        text = "This is a test. Alarms of this site reach you here."
        message = Message(f"{self._site}: test", text, "info")
        reasons = []
        for target in channel.ready:
            reason = await self._send(target.address, message)
            if reason:
                reasons.append(f"{target.name}: {reason}")
            elif target.error:
                self._told_back(channel, target)
                target.try_at_once()
                self._wake.set()
        return "; ".join(reasons)

    # Files.

    async def _look(self, channel: Channel) -> None:
        addresses, fault = await asyncio.to_thread(read_addresses, channel.settings.url_file)
        if fault != channel.fault:
            if fault and not channel.fault:
                self._tell_fault(channel, "", fault)
            elif not fault:
                self._tell_back(channel, "")
            channel.fault = fault
        if [one.address for one in channel.ready] != addresses:
            channel.take_addresses(addresses)

    # Sending.

    def _start_due(self) -> None:
        now_s = self._clock.monotonic_s()
        due: list[tuple[bool, bool, float, Channel, Target]] = []
        for channel in self._channels:
            for target in channel.ready:
                due_s = target.due_s(channel.settings.every_s)
                if due_s is not None and due_s <= now_s:
                    due.append((not target.loud, bool(target.error), due_s, channel, target))
        # Critical ones first, then those that work; who fails, fails slowly.
        due.sort(key=lambda one: one[:3])
        for _, _, _, channel, target in due[: max(MAX_SENDING - len(self._sending), 0)]:
            task = asyncio.create_task(self._tell(channel, target), name=f"notify {channel.settings.id}")
            task.add_done_callback(lambda _: self._wake.set())
            self._sending[task] = target

    async def _tell(self, channel: Channel, target: Target) -> None:
        """One try to tell an address all that waits for it."""
        news = target.begin(self._clock.monotonic_s())
        sent: bool | None = None
        try:
            if news:
                reason = await self._send(target.address, compose(news, self._site, self._zone, target.lost))
                sent = not reason
        finally:
            settings = channel.settings
            now_s = self._clock.monotonic_s()
            target.end(sent=sent, now_s=now_s, every_s=settings.every_s, returns=settings.returns)
        if sent is None:
            return
        if sent:
            target.last_sent_us = self._clock.now_us()
            if target.error:
                self._told_back(channel, target)
            return
        if not target.error:
            self._tell_fault(channel, target.name, reason)
        target.error = reason

    def _next_s(self) -> float:
        """Seconds until there is something to do."""
        now_s = self._clock.monotonic_s()
        if len(self._sending) >= MAX_SENDING:
            return LOOK_S
        due = [one.due_s(channel.settings.every_s) for channel in self._channels for one in channel.ready]
        return min([LOOK_S, *(max(at_s - now_s, 0.0) for at_s in due if at_s is not None)])

    async def _until(self, seconds: float) -> None:
        waits = asyncio.ensure_future(self._clock.sleep_s(seconds)), asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    # Edges.

    def _told_back(self, channel: Channel, target: Target) -> None:
        target.error = ""
        self._tell_back(channel, target.name)

    def _tell_fault(self, channel: Channel, name: str, reason: str) -> None:
        _log.warning("notify %s: %s%s", channel.settings.id, f"{name}: " if name else "", reason)
        data = {"address": name, "reason": reason}
        self._record(Event("notify.failed", self._clock.now_us(), channel.settings.id, data))

    def _tell_back(self, channel: Channel, name: str) -> None:
        _log.info("notify %s: %sworks again", channel.settings.id, f"{name} " if name else "")
        self._record(Event("notify.back", self._clock.now_us(), channel.settings.id, {"address": name}))
