"""Finding batteries on CAN: the interfaces of this machine are listened to, and what is heard is held against profiles.

Rules of this file:

1. Nothing is sent. An interface that the configuration has is left alone.
2. A profile fits when at least half of the messages that its points need were heard. Of several, the one that explains
   most of what is heard comes first, then the one that misses least.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import AgentError
from agent.profiles import CanProfile, load_profile, profile_folders
from agent.scan_proposal import NO_PROFILE, Proposal, slug, unique
from agent.yamlfile import yaml_files
from drivers.can.bus import Source
from drivers.can.socketcan import SocketSource, open_can
from drivers.codec.can_j1939 import pgn_of
from drivers.codec.dbc import load_dbc
from drivers.codec.dbc_model import MessageDef
from drivers.codec.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, Frames
from drivers.modbus.scan import Watcher

#: Batteries send all that they have within a second or two.
LISTEN_S = 5.0
NET = Path("/sys/class/net")
#: linux/if_arp.h: ARPHRD_CAN.
_ARPHRD_CAN = "280"
#: The line that makes a file a profile of a device on CAN, as people write it.
_CAN_DRIVER = re.compile(r"""^["']?driver["']?\s*:\s*["']?can\b""", re.MULTILINE)
_SHARE = 0.5
_MAX_IDS = 2000
_SHOWN_IDS = 12


@dataclass(frozen=True, slots=True)
class CanModel:
    """A profile, and the messages that its points need."""

    name: str
    messages: tuple[MessageDef, ...]

    def heard(self, seen: Collection[int]) -> int:
        """How many of the messages are among these identifiers."""
        groups = {pgn_of(one & EFF_MASK) for one in seen if one & EFF_FLAG}
        return sum(
            pgn_of(one.frame_id) in groups if one.j1939 else one.frame_id | (EFF_FLAG if one.extended else 0) in seen
            for one in self.messages
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What came on a bus: identifiers as Linux writes them, and whether the controller reported errors."""

    ids: frozenset[int] = frozenset()
    errors: bool = False


@dataclass(frozen=True, slots=True)
class FoundBus:
    """A bus on which somebody speaks. ``models`` fit, the best first."""

    channel: str
    heard: Heard
    models: tuple[str, ...]


def load_can_models(base: Path, watch: Watcher) -> list[CanModel]:
    """The profiles of devices on CAN, those beside the configuration first. Blocks for some 100 ms."""
    folders = profile_folders(base, base / "profiles")
    names = dict.fromkeys(path.stem for folder in folders for path in yaml_files(folder) if _is_can(path))
    models = []
    for name in names:
        try:
            profile = load_profile(name, folders)
            models.append(CanModel(name, tuple(_needed(profile))))
        except (AgentError, OSError) as error:
            watch.say(f"{error}\nthis profile is left out")
    return models


def _is_can(path: Path) -> bool:
    try:
        return _CAN_DRIVER.search(path.read_text(encoding="utf-8-sig", errors="replace")) is not None
    except OSError:
        return False


def _needed(profile: CanProfile) -> Iterable[MessageDef]:
    wanted = {point.signal.partition(".")[0] for point in profile.points}
    for path in profile.dbc:
        yield from (one for one in load_dbc(path.read_bytes(), str(path)).messages if one.name in wanted)


def interfaces(net: Path = NET) -> list[str]:
    """The CAN interfaces of this machine, by name."""
    found = []
    for one in sorted(net.iterdir()) if net.is_dir() else ():
        kind = one / "type"
        if kind.is_file() and kind.read_text().strip() == _ARPHRD_CAN:
            found.append(one.name)
    return found


def fitting(models: Iterable[CanModel], seen: Collection[int]) -> list[str]:
    """Names of the profiles that fit what was heard, the best first."""
    heard = [(model.heard(seen), len(model.messages), model.name) for model in models]
    good = [one for one in heard if one[0] and one[0] >= _SHARE * one[1]]
    return [name for _, _, name in sorted(good, key=lambda one: (-one[0], one[1]))]


async def listen(source: Source, clock: Clock, seconds: float) -> Heard:
    """What is sent on a bus within that time. Raises ``DeviceError`` when it can't be read."""
    ids: set[int] = set()
    errors = False
    came = asyncio.Event()
    await source.open(came.set)
    timer = asyncio.ensure_future(clock.sleep_s(seconds))
    try:
        while not timer.done() and len(ids) < _MAX_IDS:
            came.clear()
            frames = source.drain()
            found = _ids(frames)
            errors = errors or any(one & ERR_FLAG for one in found)
            ids.update(one for one in found if not one & ERR_FLAG)
            if not len(frames):
                source.arm()
                waiting = asyncio.ensure_future(came.wait())
                await asyncio.wait({timer, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
    finally:
        timer.cancel()
        await asyncio.gather(timer, return_exceptions=True)
        await source.close()
    return Heard(frozenset(ids), errors)


def _ids(frames: Frames) -> set[int]:
    if not len(frames):
        return set()
    return {one & ~RTR_FLAG for one in frames.raw[:, :4].copy().view("=u4")[:, 0].tolist()}


def socket_source(channel: str, clock: Clock) -> Source:
    """All that comes on an interface."""
    return SocketSource(f"socketcan:{channel}", lambda: open_can(channel, [(0, 0)], fd=False), clock, fd=False)


@dataclass
class CanJob:
    """One search over all interfaces. ``found`` is told of each bus on which somebody speaks."""

    models: Sequence[CanModel]
    configured: Callable[[], Collection[str]]  #: channels of the configuration
    watch: Watcher
    clock: Clock
    found: Callable[[FoundBus], None]
    source: Callable[[str, Clock], Source] = socket_source
    channels: Callable[[], list[str]] = interfaces
    listen_s: float = LISTEN_S
    done: int = 0
    total: int = 0

    async def run(self) -> None:
        """Listen to one after the other."""
        channels = self.channels()
        self.total = len(channels)
        if not channels:
            self.watch.say("this machine has no CAN interface: is the adapter plugged in, and its driver loaded?")
        for channel in channels:
            await self._look(channel)
            self.done += 1

    async def _look(self, channel: str) -> None:
        if channel in self.configured():
            self.watch.say(f"{channel} is configured: left alone")
            return
        self.watch.step(f"{channel}: listening", "", self.listen_s)
        try:
            heard = await listen(self.source(channel, self.clock), self.clock, self.listen_s)
        except AgentError as error:
            self.watch.say(f"{channel}: {error.reason}" + (f" ({error.hint})" if error.hint else ""))
            return
        if heard.ids:
            self.found(FoundBus(channel, heard, tuple(fitting(self.models, heard.ids))))
        elif heard.errors:
            self.watch.say(f"{channel}: only errors are heard: check the bit rate, the wiring and the termination")
        else:
            self.watch.say(f"{channel}: nobody speaks: is the battery on, the cable right, and the bit rate its own?")


def proposal_of(found: FoundBus, taken: set[str]) -> Proposal:
    """An entry for what speaks on a bus, with an id that nobody has; then it is ``taken``."""
    profile = found.models[0] if found.models else NO_PROFILE
    name = unique(slug(found.models[0]) if found.models else slug(found.channel), taken)
    taken.add(name)
    ids = sorted(found.heard.ids)
    shown = ", ".join(f"0x{one & EFF_MASK:X}" for one in ids[:_SHOWN_IDS]) + (" …" if len(ids) > _SHOWN_IDS else "")
    notes = [] if found.models else ["no profile fits: write the name of one, or give its DBC files as dbc: instead"]
    if found.heard.errors:
        notes.append("errors are heard too: check the wiring and the termination")
    title = f"a device that fits {found.models[0]}" if found.models else "an unknown device"
    entry = {"id": name, "driver": "can", "channel": found.channel, "profile": profile}
    known = {"identifiers": shown}
    return Proposal(entry, f"{title} on {found.channel}", known, {}, found.models[1:], tuple(notes), title)
