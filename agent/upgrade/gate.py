"""The gate that a new version must pass: it runs, and the site is no worse than before.

Rules of this file:

1. The version that was asked for answers, its store is well, and the API answers where the former version's did.
2. What was well before is well again: each part (the uplink among them), each device that is asked by the gateway. Of
   what comes by itself (chargers, clients that post) some come back after a quarter of an hour only: one must be back,
   of those of its kind that were there.
3. All of that for ``steady_s`` without a break and without a restart, at the latest ``within_s`` after the start.
4. What is new or better is nobody's fault; a gateway that did not run before has nothing to be compared with.
"""

import asyncio
import http.client
import ssl
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import UpgradeError
from agent.upgrade import letters
from agent.upgrade.letters import Answer

STORE = "db"
_ONLINE = "online"
#: Drivers of devices that come by themselves, when they like.
COMES = {"ocpp", "posted"}
_ASK_S = 2.0
_ANSWER_S = 10.0
_HTTP_S = 5.0
_OK = 200


@dataclass(frozen=True, slots=True)
class Door:
    """Where the API answers: host, port, with TLS or without."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """How a site was at one moment. ``answer``: None when no gateway answered."""

    answer: Answer | None
    api: bool


def faults(before: Seen, now: Seen, version: str) -> list[str]:
    """Why the site is worse than before, in words; empty when it is not. Pure."""
    if now.answer is None:
        return ["the gateway does not answer"]
    if now.answer.version != version:
        return [f"version {now.answer.version} runs"]
    found = [] if now.answer.parts.get(STORE) else ["its store is not well"]
    if before.api and not now.api:
        found.append("the API does not answer")
    if before.answer is not None:
        found += _worse(before.answer, now.answer)
    return found


def _worse(before: Answer, now: Answer) -> Iterator[str]:
    # Parts that are named only while they are not well, and those that are gone with the new version, are well.
    yield from (f"{name} is not well" for name, ok in now.parts.items() if not ok and before.parts.get(name, True))
    kinds: dict[str, list[bool]] = {}
    for name, device in before.devices.items():
        if device.state != _ONLINE:
            continue
        back = name in now.devices and now.devices[name].state == _ONLINE
        if device.driver in COMES:
            kinds.setdefault(device.driver, []).append(back)
        elif not back:
            yield f"device {name} is not online"
    yield from (
        f"none of {len(back)} devices with driver {kind} is back" for kind, back in kinds.items() if not any(back)
    )


class Gate:
    """Asks a gateway how it is, by letters in its data's folder and at its API's door."""

    def __init__(self, folder: Path, door: Door | None, clock: Clock) -> None:
        self._folder = folder
        self._door = door
        self._clock = clock

    def look(self) -> Seen:
        """How the site is now. Raises ``UpgradeError`` when nothing can be asked."""
        return asyncio.run(self._look())

    def wait(self, before: Seen, version: str, within_s: float, steady_s: float, tell: Callable[[str], object]) -> None:
        """Wait until the version has passed. Raises ``UpgradeError`` when it has not in time."""
        asyncio.run(self._wait(before, version, within_s, steady_s, tell))

    def close(self) -> None:
        """Ask no more. Raises ``OSError``."""
        letters.stop_asking(self._folder)

    async def _wait(
        self, before: Seen, version: str, within_s: float, steady_s: float, tell: Callable[[str], object]
    ) -> None:
        until_s = self._clock.monotonic_s() + within_s
        boot, since_s, said = "", 0.0, [""]
        while True:
            seen = await self._look()
            found = faults(before, seen, version)
            now_s = self._clock.monotonic_s()
            if found or seen.answer is None or seen.answer.boot != boot:
                boot, since_s = "" if seen.answer is None else seen.answer.boot, now_s
            if not found and now_s - since_s >= steady_s:
                return
            if now_s >= until_s:
                reason = "; ".join(found) or f"it was not well for {steady_s:.0f} s without a break"
                raise UpgradeError(f"start {version}", f"not within {within_s:.0f} s: {reason}")
            if found != said:
                tell("waiting: " + "; ".join(found) if found else f"well, for {steady_s:.0f} s to be seen")
                said = found
            await self._clock.sleep_s(_ASK_S)

    async def _look(self) -> Seen:
        nonce = uuid.uuid4().hex
        try:
            letters.ask(self._folder, nonce)
        except OSError as error:
            raise UpgradeError(f"ask in {self._folder}", error.strerror or str(error)) from error
        until_s = self._clock.monotonic_s() + _ANSWER_S
        while (found := letters.answer_to(self._folder, nonce)) is None and self._clock.monotonic_s() < until_s:
            await self._clock.sleep_s(0.2)
        return Seen(found, self._door is not None and await asyncio.to_thread(answers, self._door))


def answers(door: Door) -> bool:
    """Whether the API answers at its door. Whose certificate it shows is not asked: its answer is not believed."""
    if door.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            door.host, door.port, timeout=_HTTP_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(door.host, door.port, timeout=_HTTP_S)
    try:
        connection.request("GET", "/api/system/health")
        response = connection.getresponse()
        response.read(1 << 16)
    except (OSError, http.client.HTTPException):
        return False
    else:
        return response.status == _OK
    finally:
        connection.close()
