"""The site's id tags in a charger's local list: sent when they changed, in parts, never where there is no list."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, NoAnswer, Refusal
from drivers.codec.ocpp_model import Boot, Version
from drivers.ocpp.id_tags import KIND, IdTags
from drivers.ocpp.local_list import EVERY_S, LocalList
from drivers.ocpp.ports import Payload
from tests.ocpp_asked import AskedLink, AskedState
from tests.ocpp_fakes import MemoryNotebook

VERSIONS = (Version.V16, Version.V201)


class Rig:
    """A charger that keeps its list as the standard says."""

    def __init__(self, version: Version) -> None:
        self.clock = FakeClock()
        self.notebook = MemoryNotebook()
        self.tags = IdTags("known", self.notebook, self.clock)
        self.link = AskedLink(version, self.answer)
        self.state = AskedState(self.link)
        self.list = LocalList(self.state, self.tags, self.clock)
        self.has: dict[str, str] = {}
        self.version = 0
        self.fault: Exception | None = None

    def answer(self, action: str, payload: Payload) -> Payload:
        if self.fault is not None:
            raise self.fault
        if action == "GetLocalListVersion":
            return {"listVersion": self.version, "versionNumber": self.version}
        assert action == "SendLocalList"
        number = payload.get("listVersion", payload.get("versionNumber"))
        assert isinstance(number, int)
        assert number > self.version
        self.version = number
        if payload["updateType"] == "Full":
            self.has.clear()
        entries = payload.get("localAuthorizationList", ())
        assert isinstance(entries, list | tuple)
        for entry in entries:
            tag = entry["idTag"] if "idTag" in entry else entry["idToken"]["idToken"]
            self.has[tag] = (entry.get("idTagInfo") or entry["idTokenInfo"])["status"]
        return {"status": "Accepted"}

    async def add(self, tag: str, status: str = "Accepted", **more: object) -> None:
        await self.notebook.write(KIND, tag.casefold(), {"tag": tag, "status": status, **more})

    def sent(self) -> int:
        return len(self.link.sent("SendLocalList"))


def play(version: Version, scene: Callable[[Rig], Coroutine[object, object, None]]) -> Rig:
    async def main() -> Rig:
        rig = Rig(version)
        await scene(rig)
        return rig

    return asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_list_is_sent_once_and_again_when_it_changed(version: Version) -> None:
    async def scene(rig: Rig) -> None:
        await rig.list.sync(rig.link)
        assert rig.sent() == 0, "there is nothing to send, and nothing to delete"
        await rig.add("04A2B3", until_us=2_000_000_000_000_000, parent="FLEET")
        await rig.add("04FFEE", "Blocked")
        await rig.list.sync(rig.link)
        assert rig.has == {"04A2B3": "Accepted", "04FFEE": "Blocked"}
        asked = len(rig.link.asked)
        await rig.list.sync(rig.link)
        assert len(rig.link.asked) == asked, "it is not even asked"
        await rig.notebook.write(KIND, "04ffee", None)
        await rig.list.sync(rig.link)
        assert rig.has == {"04A2B3": "Accepted"}

    play(version, scene)


def test_a_group_is_called_the_same_in_the_list_as_in_answers() -> None:
    async def scene(rig: Rig) -> None:
        await rig.add("04A2B3", parent="FLEET")
        await rig.list.sync(rig.link)

    rig = play(Version.V201, scene)
    group = {"status": "Accepted", "groupIdToken": {"idToken": "FLEET", "type": "Central"}}
    entry = {"idToken": {"idToken": "04A2B3", "type": "ISO14443"}, "idTokenInfo": group}
    assert [one["localAuthorizationList"] for one in rig.link.sent("SendLocalList")] == [[entry]]


@pytest.mark.parametrize("version", VERSIONS)
def test_many_tags_go_in_parts(version: Version) -> None:
    async def scene(rig: Rig) -> None:
        for number in range(45):
            await rig.add(f"TAG-{number:03}")
        await rig.list.sync(rig.link)
        assert len(rig.has) == 45
        assert [one["updateType"] for one in rig.link.sent("SendLocalList")] == ["Full", "Differential", "Differential"]

    play(version, scene)


def test_a_tag_too_long_for_the_version_is_left_out() -> None:
    async def scene(rig: Rig) -> None:
        await rig.add("0123456789012345678901234")
        await rig.add("SHORT")
        await rig.list.sync(rig.link)

    assert play(Version.V16, scene).has == {"SHORT": "Accepted"}
    assert len(play(Version.V201, scene).has) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_charger_that_lost_its_list_gets_it_again_on_its_next_connection(version: Version) -> None:
    async def scene(rig: Rig) -> None:
        await rig.add("04A2B3")
        await rig.list.sync(rig.link)
        rig.has.clear()
        rig.version = 0
        rig.link.address = "127.0.0.1:2"
        await rig.list.sync(rig.link)
        assert rig.has == {"04A2B3": "Accepted"}

    play(version, scene)


def test_a_charger_without_a_list_is_asked_again_with_its_next_firmware_only() -> None:
    async def scene(rig: Rig) -> None:
        await rig.add("04A2B3")
        rig.version = -1
        await rig.list.sync(rig.link)
        await rig.list.sync(rig.link)
        assert [action for action, _ in rig.link.asked] == ["GetLocalListVersion"]
        rig.state.boot = Boot("Acme", "One", firmware="2.0")
        rig.version = 0
        await rig.list.sync(rig.link)
        assert rig.has == {"04A2B3": "Accepted"}

    play(Version.V16, scene)


@pytest.mark.parametrize(
    "fault",
    [CommandRejected("x", Refusal.NOT_CAPABLE, "NotImplemented"), CommandRejected("x", Refusal.DEVICE_REFUSED, "no")],
)
def test_what_a_charger_refuses_is_told_once_on_a_connection(fault: CommandRejected) -> None:
    async def scene(rig: Rig) -> None:
        await rig.add("04A2B3")
        rig.fault = fault
        rig.list.wake()
        task = asyncio.create_task(rig.list.run())
        for _ in range(3):
            await asyncio.sleep(0)
            rig.clock.advance(EVERY_S)
            for _ in range(5):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [kind for kind, _ in rig.state.told] == ["charger.refused"]

    play(Version.V16, scene)


def test_a_charger_that_does_not_answer_is_asked_on_its_next_connection() -> None:
    async def scene(rig: Rig) -> None:
        await rig.add("04A2B3")
        rig.fault = NoAnswer("call", "nothing came")
        rig.list.wake()
        task = asyncio.create_task(rig.list.run())

        async def pass_time() -> None:
            await asyncio.sleep(0)
            rig.clock.advance(EVERY_S)
            for _ in range(8):
                await asyncio.sleep(0)

        await pass_time()
        rig.fault = None
        await pass_time()
        assert rig.has == {}
        rig.list.connected()
        rig.list.wake()
        await pass_time()
        assert rig.has == {"04A2B3": "Accepted"}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(Version.V16, scene)
