"""Who is told of alarms: channels, each a file of addresses, and when each address is told what.

Rules of this file:

1. ``hear`` returns at once and never waits. Each address has its own news (``notify_news.py``), its own rhythm and its
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
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Event
from cloud_sync import notify_send
from cloud_sync.notify_news import News, compose, news_of
from cloud_sync.notify_send import Message
from cloud_sync.notify_target import Target

_log = logging.getLogger(__name__)

LOOK_S = 5.0
#: Sending takes a process of 50 MB each.
MAX_SENDING = 2
#: Of one channel.
MAX_ADDRESSES = 32
_MAX_FILE_BYTES = 64 * 1024

#: Sends a message to an address; empty when it was taken, else why not.
Send = Callable[[str, Message], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """A channel as configured. ``severity`` is the mildest that is told; ``returns``: also that an alarm is over."""

    id: str
    url_file: Path
    severity: str = "warning"
    every_s: float = 60.0
    returns: bool = True


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """A channel as health pages and metrics see it."""

    id: str
    addresses: int
    waiting: int  #: news that wait, of all its addresses
    sent: int  #: messages that were taken, since the start
    failures: int  #: tries that failed, since the start
    dropped: int  #: news that were never told
    last_error: str  #: empty while all addresses work
    last_sent_us: int | None
    next_try_in_s: float | None  #: None: nothing waits


class _Channel:
    """One channel: its settings, its file's state, and its addresses. Before the file was read there is one unknown."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.settings = settings
        self.targets: list[Target] = [Target("", 0)]
        self.fault = ""  #: why there are no addresses
        self.lost = 0  #: by addresses that are gone

    @property
    def ready(self) -> list[Target]:
        """The addresses that can be told."""
        return [one for one in self.targets if one.address]

    def wants(self, news: News, event: Event) -> bool:
        """Whether this channel is told of it."""
        named = event.data.get("notify")
        if isinstance(named, list | tuple):
            return self.settings.id in named
        return news.at_least(self.settings.severity)

    def take_addresses(self, addresses: Sequence[str]) -> None:
        """These are the file's addresses by now; empty: none can be told."""
        known = {one.address: one for one in self.targets}
        wanted = addresses or [""]
        gone = [one for one in self.targets if one.address not in wanted]
        self.targets = [
            known.get(address) or Target(address, number, gone[0] if gone else None)
            for number, address in enumerate(wanted, 1)
        ]
        for number, target in enumerate(self.targets, 1):
            target.number = number
        if all(one.address in known for one in self.targets):
            self.lost += sum(len(one.waiting) for one in gone)


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
        send: Send = notify_send.send,
    ) -> None:
        self._clock = clock
        self._record = record
        self._send = send
        self._channels: list[_Channel] = []
        self._site = ""
        self._zone = ZoneInfo("UTC")
        self._wake = asyncio.Event()
        self._sending: dict[asyncio.Task[None], Target] = {}
        self.apply(channels, site_name, zone)

    def apply(self, channels: Sequence[ChannelSettings], site_name: str, zone: str = "UTC") -> None:
        """These are the channels from now on. One whose id stays keeps what waits."""
        known = {one.settings.id: one for one in self._channels}
        self._channels = [known.get(one.id) or _Channel(one) for one in channels]
        for channel, settings in zip(self._channels, channels, strict=True):
            channel.settings = settings
        self._site, self._zone = site_name, ZoneInfo(zone)
        self._wake.set()

    def hear(self, event: Event) -> None:
        """An event of the gateway. Returns at once, never raises; whatever is no alarm's edge is passed over."""
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
        return [self._status_of(one) for one in self._channels]

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

    async def _look(self, channel: _Channel) -> None:
        addresses, fault = await asyncio.to_thread(_read_addresses, channel.settings.url_file)
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
        due: list[tuple[bool, bool, float, _Channel, Target]] = []
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

    async def _tell(self, channel: _Channel, target: Target) -> None:
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

    def _told_back(self, channel: _Channel, target: Target) -> None:
        target.error = ""
        self._tell_back(channel, target.name)

    def _tell_fault(self, channel: _Channel, name: str, reason: str) -> None:
        _log.warning("notify %s: %s%s", channel.settings.id, f"{name}: " if name else "", reason)
        data = {"address": name, "reason": reason}
        self._record(Event("notify.failed", self._clock.now_us(), channel.settings.id, data))

    def _tell_back(self, channel: _Channel, name: str) -> None:
        _log.info("notify %s: %sworks again", channel.settings.id, f"{name} " if name else "")
        self._record(Event("notify.back", self._clock.now_us(), channel.settings.id, {"address": name}))

    def _status_of(self, channel: _Channel) -> ChannelStatus:
        targets, now_s = channel.targets, self._clock.monotonic_s()
        due = [one.due_s(channel.settings.every_s) for one in channel.ready]
        errors = [f"{one.name}: {one.error}" for one in targets if one.error]
        return ChannelStatus(
            id=channel.settings.id,
            addresses=len(channel.ready),
            waiting=sum(one.owed for one in targets),
            sent=sum(one.sent for one in targets),
            failures=sum(one.failed for one in targets),
            dropped=channel.lost + sum(one.waiting.dropped for one in targets),
            last_error="; ".join([channel.fault] if channel.fault else errors),
            last_sent_us=max((one.last_sent_us for one in targets if one.last_sent_us is not None), default=None),
            next_try_in_s=min((max(at_s - now_s, 0.0) for at_s in due if at_s is not None), default=None),
        )


def _read_addresses(path: Path) -> tuple[list[str], str]:
    """The addresses of a file, one per line, without ``#`` lines; or why there are none. Never says what is in it."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        return [], f"{path}: {(error.strerror or 'can not be read').lower()}"
    except UnicodeDecodeError:
        return [], f"{path}: is no text in UTF-8"
    lines = [line.strip() for line in text.splitlines()]
    found = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not found:
        return [], f"{path}: holds no address"
    if len(found) > MAX_ADDRESSES:
        return [], f"{path}: holds more than {MAX_ADDRESSES} addresses"
    return found, ""
