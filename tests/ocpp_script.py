"""A charger that behaves as a script says, on the real link, frames, codecs, charger, set-up, limits and operations.

Only the WebSocket, the store and the clock are stand-ins. A script is a list of steps, each a mapping with one key;
``{now}``, ``{now-60}`` and ``{tx}`` (the number of the newest session) in its texts are filled in.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK

from agent.core.errors import CommandRejected, NoAnswer
from agent.ocpp_profiles import load_ocpp_profiles
from agent.profiles import profile_folders
from drivers.codec.ocpp_model import Version
from drivers.ocpp.link import WsLink
from tests.ocpp_asked import SCHEMAS, accept
from tests.ocpp_fakes import Rig, Site

SETTLE = 60


class Wire:
    """A WebSocket whose other end is the script."""

    def __init__(self, charger: "Scripted") -> None:
        self.sent: list[str] = []
        self.closed: tuple[int, str] | None = None
        self._charger = charger
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def recv(self, *, decode: bool) -> bytes:
        data = await self._frames.get()
        if data is None:
            self._frames.put_nowait(None)
            raise ConnectionClosedOK(None, None)
        return data

    async def send(self, text: str) -> None:
        if self.closed is not None:
            raise ConnectionClosedOK(None, None)
        self.sent.append(text)
        frame = json.loads(text)
        if frame[0] == 2:
            self._charger.asked_this(frame[1], frame[2], frame[3], self)

    async def ping(self) -> Awaitable[float]:
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        if self._charger.pongs:
            future.set_result(0.0)
        return future

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if self.closed is None:
            self.closed = code, reason
            self._frames.put_nowait(None)

    def say(self, text: str) -> None:
        self._frames.put_nowait(text.encode("utf-8", "surrogateescape"))


class Scripted:
    """One case."""

    def __init__(self, case: Mapping[str, Any]) -> None:
        self.case = case
        version = Version(case.get("version", "ocpp1.6"))
        quirks = load_ocpp_profiles(profile_folders())
        self.site = Site(case.get("id_tags", "known"))
        self.rig = Rig(self.site, version, quirks, **case.get("settings", {}))
        self.charger = self.rig.charger
        self.version = version
        self.pongs = True
        self.rules: dict[str, Any] = {}
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.asked_s: list[float] = []
        self.wire = self.old = Wire(self)
        self._runs: list[asyncio.Task[None]] = []
        self._id = 0

    async def run(self) -> None:
        self.charger.open(self.rig.sink)
        try:
            await self.connect()
            for number, step in enumerate(self.case["script"]):
                ((name, value),) = step.items()
                try:
                    await getattr(self, f"do_{name}")(self._filled(value))
                except AssertionError as error:
                    raise AssertionError(f"step {number} {name}: {error}") from error
        finally:
            await self.charger.close()
            for wire in (self.old, self.wire):
                await wire.close()
            await asyncio.gather(*self._runs)

    async def connect(self) -> None:
        """As the server does it."""
        self.old, self.wire = self.wire, Wire(self)
        wire = self.wire
        link = WsLink(
            wire,  # type: ignore[arg-type]
            "CP",
            self.version,
            "10.0.0.9:1",
            self.site.clock,
            SCHEMAS,
            lambda *_: None,
        )
        self.charger.attach(link)

        async def serve() -> None:
            await link.run(self.charger)
            self.charger.detach(link)

        self._runs.append(asyncio.create_task(serve()))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(SETTLE):
            await asyncio.sleep(0)

    def asked_this(self, id_: str, action: str, payload: Mapping[str, Any], wire: Wire) -> None:
        """We ask: the script's rule answers, or a charger that agrees to all."""
        self.asked.append((action, payload))
        self.asked_s.append(self.site.clock.monotonic_s())
        if not self.pongs:
            return
        rule = self.rules.get(action)
        for one in rule if isinstance(rule, list) else [rule]:
            if one is None or "when" not in one or _within(one["when"], payload):
                break
        else:
            one = None
        if one is None:
            wire.say(json.dumps([3, id_, accept(action, payload)]))
        elif "raw" in one:
            wire.say(one["raw"].replace("{id}", id_))
        elif "error" in one:
            wire.say(json.dumps([4, id_, one["error"], "", {}]))
        elif "give" in one:
            wire.say(json.dumps([3, id_, one["give"]]))
        elif "drop" in one:
            asyncio.get_running_loop().create_task(wire.close())

    # -- steps: what the charger does --

    async def do_says(self, value: list[Any]) -> None:
        """Action, payload, and what the answer must hold."""
        self._id += 1
        action, payload, *wanted = value
        self.wire.say(json.dumps([2, str(self._id), action, payload]))
        await self.settle()
        answer = self._answer(str(self._id))
        assert answer is not None, "it was not answered"
        assert answer[0] == 3, answer
        assert not wanted or _within(wanted[0], answer[2]), answer

    async def do_raw(self, value: str) -> None:
        """A frame as it comes: NUL bytes as \\0."""
        self.wire.say(value)
        await self.settle()

    async def do_answered(self, value: Mapping[str, Any]) -> None:
        """By id: the kind of answer (3, 4), and how often."""
        for id_, wanted in value.items():
            found = [json.loads(text) for text in self.wire.sent if json.loads(text)[1] == id_]
            assert [frame[0] for frame in found] == wanted, found

    async def do_answers(self, value: Mapping[str, Any]) -> None:
        """How it answers from now on: by action {give, error, raw, silent, drop}, or a list of those with {when}."""
        self.rules.update(value)

    async def do_pongs(self, value: object) -> None:
        """False: it is cut off; neither pings nor questions are answered."""
        self.pongs = value is True

    async def do_drop(self, _: object) -> None:
        await self.wire.close()
        await self.settle()

    async def do_close_old(self, _: object) -> None:
        """The connection before ends only now."""
        await self.old.close()
        await self.settle()

    async def do_connect(self, _: object) -> None:
        await self.connect()

    async def do_wait(self, seconds: float) -> None:
        left = float(seconds)
        while left > 0:
            self.site.clock.advance(min(1.0, left))
            left -= 1.0
            await self.settle()

    async def do_forget(self, _: object) -> None:
        self.asked.clear()
        self.asked_s.clear()

    # -- steps: what the house does --

    async def do_set(self, value: list[Any]) -> None:
        """Point, value, and what is in force (or the refusal)."""
        point, wanted, *outcome = value
        try:
            said: object = await self._while_time_passes(self.charger.limits.set(point, wanted))
        except CommandRejected as error:
            said = str(error.refusal)
        except NoAnswer:
            said = "no_answer"
        assert not outcome or said == outcome[0], said

    async def do_act(self, value: list[Any]) -> None:
        action, args, *outcome = value
        try:
            said: object = await self._while_time_passes(self.charger.act(action, args))
        except CommandRejected as error:
            said = str(error.refusal)
        if outcome:
            assert said == outcome[0] if isinstance(outcome[0], str) else _within(outcome[0], said), said

    # -- steps: what must be --

    async def do_asked(self, value: list[Any]) -> None:
        action, *wanted = value
        found = [payload for name, payload in self.asked if name == action]
        if wanted and isinstance(wanted[0], int):
            assert len(found) == wanted[0], found
        else:
            assert any(_within(wanted[0] if wanted else {}, payload) for payload in found), self.asked

    async def do_spaced(self, value: list[Any]) -> None:
        """The last two of an action lie so many seconds apart at least."""
        times = [at_s for (action, _), at_s in zip(self.asked, self.asked_s, strict=True) if action == value[0]]
        assert times[-1] - times[-2] >= value[1], times

    async def do_not_asked(self, value: list[Any]) -> None:
        action, *wanted = value
        found = [payload for name, payload in self.asked if name == action]
        assert not any(_within(wanted[0] if wanted else {}, payload) for payload in found), found

    async def do_value(self, value: Mapping[str, Any]) -> None:
        for name, wanted in value.items():
            said = self.rig.status() if name == "charger_status" else self.rig.value(name)
            assert said == (wanted if isinstance(wanted, str) or wanted is None else pytest.approx(wanted)), (
                name,
                said,
            )

    async def do_sessions(self, value: list[Mapping[str, Any]]) -> None:
        rows = self.rig.rows
        assert len(rows) == len(value), rows
        for row, wanted in zip(rows, value, strict=True):
            for name, one in wanted.items():
                said = getattr(row, name)
                assert _within(one, said), (name, said)

    async def do_told(self, value: list[Any]) -> None:
        kind, *wanted = value
        found = self.rig.told(kind)
        assert any(_within(wanted[0] if wanted else {}, data) for data in found), self.rig.kinds()

    async def do_not_told(self, kind: str) -> None:
        assert kind not in self.rig.kinds()

    async def do_profile(self, name: str) -> None:
        assert self.charger.quirks.name == name, self.charger.quirks.name

    async def do_connected(self, value: object) -> None:
        assert (self.wire.closed is None) is value, self.wire.closed

    async def do_boot(self, value: Mapping[str, Any]) -> None:
        assert self.charger.boot is not None
        for name, wanted in value.items():
            assert getattr(self.charger.boot, name) == wanted

    # -- inside --

    async def _while_time_passes(self, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - what the work gives
        task = asyncio.ensure_future(work)
        for _ in range(120):
            await self.settle()
            if task.done():
                break
            self.site.clock.advance(1.0)
        return await task

    def _answer(self, id_: str) -> list[Any] | None:
        for text in reversed(self.wire.sent):
            frame: list[Any] = json.loads(text)
            if frame[0] in {3, 4} and frame[1] == id_:
                return frame
        return None

    def _filled(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, str):
            if value == "{tx}":
                return self.rig.rows[-1].id
            fill: Callable[[re.Match[str]], str] = lambda found: self.rig.at(float(found[1] or 0))  # noqa: E731
            return re.sub(r"\{now([+-]\d+)?\}", fill, value)
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        return {name: self._filled(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _within(wanted: Any, found: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether all that is wanted is there: mappings by key, texts ~like by expression, the rest equal."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_within(one, found.get(name)) for name, one in wanted.items())
    if isinstance(wanted, str) and wanted.startswith("~"):
        return isinstance(found, str) and re.search(wanted[1:], found) is not None
    if isinstance(wanted, list):
        return isinstance(found, list | tuple) and len(wanted) == len(found) and all(map(_within, wanted, found))
    return bool(wanted == found)
