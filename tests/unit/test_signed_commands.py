"""Signed commands: only what a commander signed, for this site, in time, and once; whatever stands at the broker."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.command_gate import BURST, QUIET, QUIET_S, REFILL_S, REFUSED, CommandGate
from agent.control.execution import Answer
from agent.control.records import MAX_RECENT
from agent.core.clock import FakeClock
from agent.core.errors import ConfigError
from agent.core.model import Event
from agent.remote import RemoteOrders
from cloud_sync.command_payload import MAX_BYTES, CommandError, Order, parse_command
from cloud_sync.downlink import Downlink
from cloud_sync.settings import UplinkSettings
from cloud_sync.signed import MAX_COMMANDERS, Commander, line_of, signed, text_of
from tests.control_fakes import NOON_US, Rig
from tests.unit.test_downlink import TOPIC, Site, said
from tests.unit.uplink_fakes import FakeSession

#: RFC 8032, 7.1, the private keys of tests 1 and 2.
OFFICE = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
)
STRANGER = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
)


def line(key: Ed25519PrivateKey) -> str:
    return line_of(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def by(key: Ed25519PrivateKey, command_id: str = "c1", **changes: object) -> bytes:
    return signed(said(command_id, **{"site": "depot", **changes}), key.sign)


class Told:
    """What the ledger was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def gate(*commanders: Commander, told: Told | None = None, clock: FakeClock | None = None) -> CommandGate:
    who = commanders or (Commander("office", line(OFFICE)),)
    return CommandGate("depot", who, clock or FakeClock(NOON_US), told or Told())


class Guarded(Site):
    """A site that takes signed commands only."""

    def __init__(self, rig: Rig, *commanders: Commander) -> None:
        super().__init__(rig)
        self.told = Told()
        self.gate = gate(*commanders, told=self.told, clock=rig.clock)
        orders = RemoteOrders(rig.service, rig.clock, self.judging, self.gate)
        self.downlink = Downlink(TOPIC, orders.execute)

    async def close(self) -> None:
        await super().close()
        await self.gate.close()


@asynccontextmanager
async def guarded(*commanders: Commander, rig: Rig | None = None) -> AsyncIterator[Guarded]:
    made = Guarded(await (rig or Rig()).start(), *commanders)
    await made.connect()
    try:
        yield made
    finally:
        await made.close()


def test_a_signed_command_is_done_once_in_the_name_of_who_signed_it() -> None:
    async def scenario() -> None:
        async with guarded() as one:
            for _ in range(3):
                await one.send(by(OFFICE, issuer="desk 4"))
            await one.send(by(OFFICE, "c2"))
            assert one.outcomes() == [("c1", "done")] * 3 + [("c2", "done")]
            assert len({payload for _, payload, _ in one.session.sent}) == 2
            assert len(one.rig.charger.acted) == 2
            issuers = [event.data["issuer"] for event in one.rig.told("command.result")]
            assert issuers == ["central:office/desk 4", "central:office"]
            assert one.told.events == []
            assert one.downlink.counters()["commands_not_authorized_total"] == 0

    asyncio.run(scenario())


def _changed(**changes: object) -> bytes:
    return json.dumps({**json.loads(by(OFFICE)), **changes}).encode()


SIGNATURE = json.loads(by(OFFICE))["signature"]
NOT_AUTHORIZED = [
    pytest.param(json.dumps(said(site="depot")).encode(), "has no signature", id="unsigned"),
    pytest.param(by(STRANGER), "another key", id="another's key"),
    pytest.param(_changed(action="start"), "it was changed", id="another action"),
    pytest.param(_changed(target="cp2"), "it was changed", id="another station"),
    pytest.param(_changed(args={"all": True}), "it was changed", id="other arguments"),
    pytest.param(_changed(id="c9"), "it was changed", id="another id"),
    pytest.param(_changed(issued_at=NOON_US + 1), "it was changed", id="another time"),
    pytest.param(_changed(ttl_s=900), "it was changed", id="lives longer"),
    pytest.param(_changed(issuer="boss"), "it was changed", id="another issuer"),
    pytest.param(by(OFFICE, site="depot-8"), "signed for the site depot-8", id="another site"),
    pytest.param(_changed(site="depot-8"), "it was changed", id="moved to another site"),
    pytest.param(by(OFFICE, site=...), "signed for the site (none)", id="for no site"),
    pytest.param(_changed(signature=""), "is not the base64", id="empty signature"),
    pytest.param(_changed(signature=None), "is not the base64", id="null"),
    pytest.param(_changed(signature=[SIGNATURE]), "is not the base64", id="a list"),
    pytest.param(_changed(signature=SIGNATURE + "\n"), "is not the base64", id="a line more"),
    pytest.param(_changed(signature=SIGNATURE.rstrip("=")), "is not the base64", id="no padding"),
    pytest.param(_changed(signature=base64.b64encode(bytes(64)).decode()), "another key", id="zeros"),
    pytest.param(by(OFFICE)[:-1] + b',"action":"start"}', "one name", id="a member twice"),
    pytest.param(_changed(args={"x": 2**53}), "2^53", id="a number that others read otherwise"),
    pytest.param(_changed(args={"x": "\ud800"}), "canonical form", id="half a character"),
]


@pytest.mark.announced_warnings
@pytest.mark.parametrize(("payload", "reason"), NOT_AUTHORIZED)
def test_what_no_commander_signed_for_this_site_is_refused_in_words(payload: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with guarded() as one:
            await one.send(payload)
            (result,) = one.results()
            assert (result["outcome"], result["refusal"]) == ("rejected", "not_authorized")
            assert reason in str(result["reason"])
            assert len(one.session.acknowledged) == 1
            assert not one.rig.charger.acted
            assert not one.rig.told("command.result"), "control has never heard of it"
            (event,) = one.told.events
            assert (event.kind, event.data["id"], event.data["reason"]) == (REFUSED, result["id"], result["reason"])
            assert one.downlink.counters()["commands_not_authorized_total"] == 1

    asyncio.run(scenario())


def test_one_signed_by_the_rightful_that_is_late_or_retained_has_the_outcome_of_ever() -> None:
    async def scenario() -> None:
        async with guarded() as one:
            await one.send(by(OFFICE, "old", issued_at=NOON_US - 61_000_000))
            await one.send(by(OFFICE, "ahead", issued_at=NOON_US + 61_000_000))
            await one.send(by(OFFICE, "kept"), retain=True)
            await one.send(by(OFFICE, "odd", colour="red"))
            await one.send(by(OFFICE, "c1"))
            await one.send(by(OFFICE, "c1", action="start"))
            outcomes = [(result["outcome"], result["refusal"]) for result in one.results()]
            assert outcomes == [
                ("expired", "expired"),
                ("rejected", "out_of_range"),
                ("rejected", "out_of_range"),
                ("rejected", "out_of_range"),
                ("done", None),
                ("rejected", "duplicate"),
            ]
            assert len(one.rig.charger.acted) == 1
            assert one.told.events == []

    asyncio.run(scenario())


@pytest.mark.parametrize(("resumed", "expires_s"), [(False, None), (True, None), (True, 30)])
def test_while_the_clock_is_not_set_none_is_done_whatever_the_broker_says_of_its_age(
    *, resumed: bool, expires_s: int | None
) -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.clock.jump_wall(-NOON_US / 1e6 + 100)
        async with guarded(rig=rig) as one:
            session = FakeSession()
            session.resumed = resumed
            await one.connect(session)
            await one.send(by(OFFICE), expires_s=expires_s)
            (result,) = one.results()
            assert (result["outcome"], "clock" in str(result["reason"])) == ("expired", True)
            assert not rig.charger.acted

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_who_can_not_sign_uses_up_no_ids_of_who_can() -> None:
    """Neither by being first with an id, nor by so many that there is no room for more."""

    async def scenario() -> None:
        async with guarded() as one:
            await one.send(_changed(signature=base64.b64encode(bytes(64)).decode()))
            await one.send(json.dumps(said("c1", site="depot")).encode())
            for number in range(MAX_RECENT + 10):
                one.gate.judge(parse_command(json.dumps(said(f"x{number}")).encode()))
            await one.send(by(OFFICE))
            assert [result["outcome"] for result in one.results()] == ["rejected", "rejected", "done"]
            assert len(one.rig.charger.acted) == 1

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_both_edges_are_told_once_and_a_flood_in_between_is_mostly_a_number(caplog: pytest.LogCaptureFixture) -> None:
    told, clock = Told(), FakeClock(NOON_US)

    async def scenario() -> None:
        one = gate(told=told, clock=clock)
        order = parse_command(json.dumps(said()).encode())
        refusing = [one.refusing]
        for _ in range(1000):
            assert isinstance(one.judge(order), Answer)
        refusing.append(one.refusing)
        assert told.kinds() == [REFUSED] * int(BURST)
        clock.advance(REFILL_S)
        one.judge(order)
        assert told.events[-1].data["left_out"] == 1000 - BURST
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance(QUIET_S - 1)
        for _ in range(20):
            await asyncio.sleep(0)
        refusing.append(one.refusing)
        clock.advance(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [*refusing, one.refusing] == [False, True, True, False]
        assert (told.events[-1].kind, told.events[-1].data["refused"]) == (QUIET, 1001)
        one.judge(order)
        assert told.kinds()[-1] == REFUSED
        await one.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


@pytest.mark.announced_warnings
def test_two_keys_at_once_and_none_of_the_one_that_went() -> None:
    old, new = Commander("office", line(STRANGER)), Commander("office", line(OFFICE))

    async def scenario() -> None:
        async with guarded(old, new) as one:
            await one.send(by(OFFICE, "c1"))
            await one.send(by(STRANGER, "c2"))
            assert one.outcomes() == [("c1", "done"), ("c2", "done")]
            issuers = {event.data["issuer"] for event in one.rig.told("command.result")}
            assert issuers == {"central:office"}, "wishes of the key that goes can be taken back by the one that comes"
        only = gate(new)
        assert isinstance(only.judge(parse_command(by(OFFICE))), Order)
        assert isinstance(only.judge(parse_command(by(STRANGER))), Answer)
        await only.close()

    asyncio.run(scenario())


WHOLE = by(OFFICE, args={"limit_a": 16.5, "text": "é\n"}, action="limit")


@pytest.mark.announced_warnings
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_each_changed_byte_is_refused_or_says_the_same(position: int, change: int) -> None:
    """A byte that changes how a value is written, and not the value, is no change: that is what a canonical form is."""
    damaged = bytearray(WHOLE)
    damaged[position] ^= change
    _refused_or_the_same(bytes(damaged))


@pytest.mark.announced_warnings
@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.binary(max_size=6))
def test_whatever_is_put_in_or_cut_out_is_refused_or_says_the_same(one: int, other: int, put: bytes) -> None:
    first, last = sorted((one, other))
    _refused_or_the_same(WHOLE[:first] + put + WHOLE[last:])


def _refused_or_the_same(payload: bytes) -> None:
    async def scenario() -> None:
        try:
            order = parse_command(payload)
        except CommandError:
            return
        judged, wanted = one.judge(order), one.judge(parse_command(WHOLE))
        assert isinstance(wanted, Order)
        assert isinstance(judged, Answer) or judged == wanted
        await one.close()

    one = gate()
    asyncio.run(scenario())


@given(st.binary(max_size=300), st.sampled_from([OFFICE, STRANGER]))
def test_bytes_that_a_key_signed_but_are_no_command_never_raise(text: bytes, key: Ed25519PrivateKey) -> None:
    signature = base64.b64encode(key.sign(text)).decode()
    payload = json.dumps({"id": "c1", "text": text.decode(errors="replace"), "signature": signature}).encode()
    assume(len(payload) <= MAX_BYTES)
    assert parse_command(payload).id == "c1"


def test_nesting_beyond_all_measure_is_refused() -> None:
    deep = by(OFFICE)[:-1] + b',"args":' + b"[" * 900 + b"]" * 900 + b"}"
    assert "canonical" in parse_command(deep).signed.flaw


def test_another_writing_of_the_same_passes_and_what_is_done_is_what_was_signed() -> None:
    document = json.loads(by(OFFICE, ttl_s=60.0, args={"limit_a": 16.0}))
    document["ttl_s"] = 60.0
    order = parse_command(json.dumps(document, indent=1, sort_keys=False).replace("16", "1.6e1").encode())
    judged = gate().judge(order)
    assert isinstance(judged, Order)
    assert judged.args == {"limit_a": 16}
    assert type(judged.args["limit_a"]) is int, "as in the canonical form, however it came"


def test_where_no_key_is_configured_a_signed_command_is_one_like_any_other() -> None:
    async def scenario() -> None:
        rig = Rig()
        one = Site(await rig.start())
        await one.connect()
        await one.send(by(STRANGER))
        await one.send(json.dumps(said("c2", site="depot-8")).encode())
        assert one.outcomes() == [("c1", "done"), ("c2", "rejected")]
        await one.close()

    asyncio.run(scenario())


def test_the_bytes_that_are_signed() -> None:
    """Written by hand: another program must find the same."""
    document: dict[str, object] = {
        "ttl_s": 60.0,
        "id": "7f",
        "args": {"limit_a": 1e1},
        "site": "depot",
        "signature": "x",
    }
    wanted = b'enlace command 1\n{"args":{"limit_a":10},"id":"7f","site":"depot","ttl_s":60}'
    assert text_of(document) == wanted
    message = json.loads(signed(document, OFFICE.sign))
    OFFICE.public_key().verify(base64.b64decode(message["signature"]), wanted)


@pytest.mark.parametrize(
    "text", ["", "x", line(OFFICE)[:-1], line(OFFICE)[16:], "M" * 60, "ä", base64.b64encode(bytes(44)).decode()]
)
def test_what_is_no_public_key_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="public_key"):
        Commander("office", text)


def test_who_must_be_signed_by_may_come_over_any_network() -> None:
    office = Commander("office", line(OFFICE))
    assert UplinkSettings("mqtt://broker", "depot", commanders=(office,)).takes_commands
    assert not UplinkSettings("mqtt://broker", "depot", commanders=(office,), commands="no").takes_commands
    with pytest.raises(ConfigError, match="commanders"):
        UplinkSettings("mqtt://broker", "depot", commanders=(office,) * (MAX_COMMANDERS + 1))
