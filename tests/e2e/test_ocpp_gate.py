"""Who comes in: profiles, passwords, certificates, strangers, adoption. Ids are those of the standard's test cases."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, NoAnswer, Refusal
from agent.core.model import Event
from agent.store.db import Store
from drivers.codec.ocpp_model import Entry, Version
from drivers.ocpp.adoption import AdoptResult
from drivers.ocpp.credentials import KIND, seal
from drivers.ocpp.gatekeeper import MAX_WAITING, Gate, names
from drivers.ocpp.knocks import MAX_KNOWN, KnockInfo
from drivers.ocpp.pending import Pending
from drivers.ocpp.ports import Call, Decision, Fault, Knock, Link, Payload
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint

T = TypeVar("T")
STRONG = b"a-password-of-more-than-16"


class Peer:
    """A configured charger."""

    def attach(self, link: Link) -> None: ...

    async def handle(self, call: Call) -> Payload | Fault:
        return {}

    def detach(self, link: Link) -> None: ...


class Wire:
    """A ``Link`` whose charger gives these answers."""

    def __init__(self, version: Version = Version.V16, answer: Payload | Exception | None = None) -> None:
        self.version = version
        self.identity = "CP-1"
        self.address = "10.0.0.9:40000"
        self.answer = answer
        self.asked: list[tuple[str, Payload]] = []
        self.closed: list[int] = []
        self.before: Callable[[], None] = lambda: None

    async def call(self, action: str, payload: Payload, timeout_s: float | None = None) -> Payload:
        assert Schemas().deviation(self.version, action, payload, strict=True) == ""
        self.before()
        self.asked.append((action, payload))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or {}

    async def close(self, code: int, reason: str) -> None:
        self.closed.append(code)

    def set_ping(self, seconds: float) -> None: ...

    @property
    def told(self) -> bytes:
        """The password that the charger has been told, as it presents it."""
        action, payload = self.asked[-1]
        if action == "ChangeConfiguration":
            assert payload["key"] == "AuthorizationKey"
            return bytes.fromhex(str(payload["value"]))
        variables = payload["setVariableData"]
        assert isinstance(variables, list)
        (variable,) = variables
        assert (variable["component"]["name"], variable["variable"]["name"]) == ("SecurityCtrlr", "BasicAuthPassword")
        return str(variable["attributeValue"]).encode()


class House:
    """A gate over a real store."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.folder = folder
        self.store = Store.open(folder / "enlace.db", self.clock)
        self.events: list[Event] = []
        self.peer = Peer()

    def gate(self, profile: int = 1, *chargers: ChargerSettings, unknown: str = "pending") -> Gate:
        endpoint = Endpoint("127.0.0.1", 0, profile)
        central = CentralSettings(endpoint, self.folder, unknown="refuse" if unknown == "refuse" else "pending")
        known = {one.identity: (one, self.peer) for one in chargers}
        return Gate(central, known, self.store, self.clock, self.events.append)

    def stored(self, kind: str) -> list[Mapping[str, object]]:
        return [one.event.data for one in self.store.events(0, 10_000) if one.event.kind == kind]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.store.close()


def run(work: Awaitable[T]) -> T:
    async def main() -> T:
        return await work

    return asyncio.run(main())


def cp1(**more: object) -> ChargerSettings:
    return ChargerSettings("cp1", "CP-1", **more)  # type: ignore[arg-type]


def knock(password: bytes | None = None, identity: str = "CP-1", profile: int = 1, **more: object) -> Knock:
    user = None if password is None else identity
    values: dict[str, object] = {"address": "10.0.0.9:40000", "subprotocols": ("ocpp1.6",), "user": user} | more
    return Knock(identity=identity, profile=profile, password=password, **values)  # type: ignore[arg-type]


async def with_password(gate: Gate, password: bytes = STRONG) -> Gate:
    await gate.credentials.put("CP-1", seal(password), "test")
    return gate


def verdict(decision: Decision) -> tuple[Entry, str]:
    return decision.entry, decision.reason


# -- passwords


@pytest.mark.parametrize("profile", [1, 2])
def test_tc_a_01_the_right_password_lets_in(house: House, profile: int) -> None:
    async def main() -> None:
        gate = await with_password(house.gate(profile, cp1(version=Version.V201)))
        decision = await gate.decide(knock(STRONG, profile=profile))
        assert decision == Decision(Entry.ADOPTED, "", "password:CP-1", house.peer, Version.V201)
        assert gate.knocks() == []

    run(main())


def test_tc_a_02_another_user_name_is_refused(house: House) -> None:
    async def main() -> None:
        gate = await with_password(house.gate(1, cp1()))
        decision = await gate.decide(knock(STRONG, user="CP-2"))
        assert (verdict(decision), decision.status) == ((Entry.REFUSED, "wrong_user"), 401)

    run(main())


def test_tc_a_03_a_wrong_password_is_refused_shown_and_told_once(house: House) -> None:
    async def main() -> None:
        gate = await with_password(house.gate(1, cp1()))
        for wrong in (b"another-password-of-16", b"", STRONG[:-1], STRONG + b"x", STRONG.upper()):
            decision = await gate.decide(knock(wrong))
            assert (verdict(decision), decision.status, decision.peer) == ((Entry.REFUSED, "wrong_password"), 401, None)
        decision = await gate.decide(knock(None))
        assert verdict(decision) == (Entry.REFUSED, "no_password")
        (info,) = gate.knocks()
        assert (info.reason, info.count, info.address, info.entry) == (
            "no_password",
            6,
            "10.0.0.9:40000",
            Entry.REFUSED,
        )
        assert [(event.kind, event.subject, event.data["reason"]) for event in house.events] == [
            ("charger.refused", "cp1", "wrong_password"),
            ("charger.refused", "cp1", "no_password"),
        ]
        house.clock.advance(600)
        await gate.decide(knock(b"wrong"))
        assert (house.events[-1].data["reason"], house.events[-1].data["times"]) == ("wrong_password", 5)
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.ADOPTED, "")
        gate.connected(knock(STRONG), await gate.decide(knock(STRONG)), Version.V16)
        assert gate.knocks() == []

    run(main())


def test_a_storm_of_wrong_passwords_costs_no_hash_and_no_neighbour(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        gate = await with_password(house.gate(1, cp1(), ChargerSettings("cp2", "CP-2")))
        await gate.credentials.put("CP-2", seal(STRONG), "test")
        checked = 0
        check = gate.credentials.check

        async def counted(settings: ChargerSettings, password: bytes) -> bool:
            nonlocal checked
            checked += 1
            return await check(settings, password)

        monkeypatch.setattr(gate.credentials, "check", counted)
        found = [await gate.decide(knock(b"wrong")) for _ in range(1000)]
        assert checked == 10
        assert {one.status for one in found[10:]} == {429}
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.REFUSED, "too_many_attempts")
        # The same address, for a site's chargers may stand behind one; and the same charger from another.
        assert verdict(await gate.decide(knock(STRONG, "CP-2"))) == (Entry.ADOPTED, "")
        assert verdict(await gate.decide(knock(STRONG, address="10.0.0.10:1"))) == (Entry.ADOPTED, "")
        house.clock.advance(6)
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.ADOPTED, "")
        assert len(house.events) == 2  # wrong_password and too_many_attempts, once each

    run(main())


def test_one_address_can_not_try_all_chargers(house: House) -> None:
    async def main() -> None:
        many = [ChargerSettings(f"cp{n}", f"CP-{n}") for n in range(100)]
        gate = house.gate(1, *many)
        for one in many:
            await gate.credentials.put(one.identity, seal(STRONG), "test")
        address = "[2001:db8::1%eth0]:5"
        tried = [(await gate.decide(knock(b"wrong", f"CP-{n}", address=address))).reason for n in range(100)]
        assert tried == ["wrong_password"] * 60 + ["too_many_attempts"] * 40
        same_network = await gate.decide(knock(STRONG, "CP-1", address="[2001:db8::2]:9"))
        assert same_network.reason == "too_many_attempts"
        assert verdict(await gate.decide(knock(STRONG, "CP-1", address="[2001:db8:0:1::2]:9"))) == (Entry.ADOPTED, "")

    run(main())


def test_a_password_file_is_read_as_it_stands(house: House) -> None:
    file = house.folder / "password"

    async def main() -> None:
        gate = await with_password(house.gate(1, cp1(password_file=file)), b"of an adoption before")
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.REFUSED, "wrong_password")  # it is not there
        file.write_bytes(STRONG + b"\r\n")
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.ADOPTED, "")
        assert verdict(await gate.decide(knock(b"of an adoption before"))) == (Entry.REFUSED, "wrong_password")
        file.write_text(STRONG.hex())  # the digits of an AuthorizationKey are the same password
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.REFUSED, "wrong_password")  # more than 20 bytes
        file.write_text(STRONG[:20].hex())
        assert verdict(await gate.decide(knock(STRONG[:20]))) == (Entry.ADOPTED, "")
        file.write_bytes(b"\n")
        assert verdict(await gate.decide(knock(b""))) == (Entry.REFUSED, "wrong_password")

    run(main())


# -- profiles


def test_tc_a_07_the_certificate_of_that_charger_lets_in(house: House) -> None:
    async def main() -> None:
        gate = house.gate(3, cp1())
        decision = await gate.decide(knock(profile=3, certificate_cn="CP-1.chargers.example"))
        assert (decision.entry, decision.credential) == (Entry.ADOPTED, "certificate:CP-1.chargers.example")

    run(main())


@pytest.mark.parametrize("name", [None, "", "CP-12", "XCP-1", "CP-1-2", "A-CP-1", "cp-1"])
def test_tc_a_08_another_ones_certificate_is_refused(house: House, name: str | None) -> None:
    async def main() -> None:
        gate = house.gate(3, cp1())
        decision = await gate.decide(knock(STRONG, profile=3, certificate_cn=name))
        assert (verdict(decision), decision.status) == ((Entry.REFUSED, "wrong_certificate"), 401)

    run(main())


def test_the_whole_name_of_another_charger_is_that_ones(house: House) -> None:
    async def main() -> None:
        name = "DEPOT,CP-1"
        two = ChargerSettings("cp2", name)
        decision = await house.gate(3, cp1(), two).decide(knock(profile=3, certificate_cn=name))
        assert verdict(decision) == (Entry.REFUSED, "wrong_certificate")
        decision = await house.gate(3, cp1(), two).decide(knock(profile=3, certificate_cn=name, identity=name))
        assert verdict(decision) == (Entry.ADOPTED, "")
        decision = await house.gate(3, cp1()).decide(knock(profile=3, certificate_cn=name))
        assert verdict(decision) == (Entry.ADOPTED, "")

    run(main())


def test_a_common_name_has_the_identity_as_a_part_of_its_own() -> None:
    assert names("CP-1", "CP-1")
    assert names("evse:CP-1", "CP-1")
    assert names("Depot 7 CP-1", "CP-1")
    assert not names("CP-1", "")
    assert not names("CPx1", "CP.1")


def test_tc_a_19_the_same_password_holds_at_the_port_of_the_higher_profile(house: House) -> None:
    async def main() -> None:
        await with_password(house.gate(1, cp1()))
        higher = house.gate(2, cp1(security_profile=2))
        assert verdict(await higher.decide(knock(STRONG, profile=2))) == (Entry.ADOPTED, "")
        lower = house.gate(1, cp1(security_profile=2))
        assert verdict(await lower.decide(knock(STRONG))) == (Entry.REFUSED, "wrong_profile")

    run(main())


@pytest.mark.parametrize(
    ("port", "configured", "entry"),
    [
        (0, None, Entry.ADOPTED),
        (0, 0, Entry.ADOPTED),
        (0, 1, Entry.REFUSED),
        (1, None, Entry.REFUSED),
        (1, 0, Entry.ADOPTED),
        (1, 1, Entry.REFUSED),
        (1, 2, Entry.REFUSED),
        (2, None, Entry.REFUSED),
        (2, 0, Entry.REFUSED),
        (2, 1, Entry.REFUSED),
        (2, 3, Entry.REFUSED),
        (3, None, Entry.REFUSED),
        (3, 0, Entry.REFUSED),
    ],
)
def test_tc_a_22_no_charger_lowers_the_profile(house: House, port: int, configured: int | None, entry: Entry) -> None:
    """Without any proof it comes in only where the port or the configuration asks for none."""

    async def main() -> None:
        gate = await with_password(house.gate(port, cp1(security_profile=configured)))
        assert (await gate.decide(knock(None, profile=port))).entry is entry

    run(main())


# -- strangers


def come_in(gate: Gate, made: Knock, decision: Decision, wire: Wire) -> Pending:
    assert isinstance(decision.peer, Pending)
    decision.peer.attach(wire)
    gate.connected(made, decision, wire.version)
    return decision.peer


def test_a_stranger_waits_and_is_shown(house: House) -> None:
    async def main() -> None:
        gate = house.gate()
        made = knock(None, "CP-9")
        decision = await gate.decide(made)
        assert verdict(decision) == (Entry.PENDING, "unknown")
        pending = come_in(gate, made, decision, Wire())
        await pending.handle(Call("1", "BootNotification", {"chargePointVendor": "V\0", "chargePointModel": "M" * 99}))
        (info,) = gate.knocks()
        assert info.boot is not None
        assert info == KnockInfo(
            "CP-9",
            "10.0.0.9:40000",
            1,
            Entry.PENDING,
            "unknown",
            house.clock.now_us(),
            house.clock.now_us(),
            1,
            ("ocpp1.6",),
            Version.V16,
            connected=True,
            boot=info.boot,
        )
        assert (info.boot.vendor, info.boot.model) == ("V", "M" * 64)
        assert pending.link is not None
        pending.detach(pending.link)
        (info,) = gate.knocks()
        assert not info.connected
        assert info.boot is not None
        assert [(event.kind, event.subject) for event in house.events] == [("charger.knocked", "CP-9")]

    run(main())


def test_a_stranger_is_refused_where_the_site_says_so(house: House) -> None:
    decision = run(house.gate(unknown="refuse").decide(knock(STRONG)))
    assert (verdict(decision), decision.status) == ((Entry.REFUSED, "unknown"), 404)


def test_a_configured_charger_without_a_password_waits(house: House) -> None:
    """Also after the database was lost, and with it the passwords."""
    decision = run(house.gate(1, cp1(version=Version.V16), unknown="refuse").decide(knock(STRONG)))
    assert (verdict(decision), decision.version) == ((Entry.PENDING, "no_credential"), Version.V16)


def test_only_so_many_wait_and_are_remembered(house: House) -> None:
    async def main() -> None:
        gate = house.gate(1, cp1())
        waiting = []
        for number in range(MAX_WAITING):
            made = knock(None, f"S-{number}")
            waiting.append(come_in(gate, made, await gate.decide(made), Wire()))
        for number in range(2 * MAX_KNOWN):
            assert verdict(await gate.decide(knock(None, f"T-{number}"))) == (Entry.REFUSED, "too_many_wait")
        known = gate.knocks()
        assert len(known) == MAX_KNOWN
        assert sum(one.connected for one in known) == MAX_WAITING  # who is here is not forgotten for who is not
        assert len(house.events) == 60
        assert verdict(await gate.decide(knock(None))) == (Entry.PENDING, "no_credential")  # it is configured
        link = waiting[0].link
        assert link is not None
        waiting[0].detach(link)
        waiting[1].detach(waiting[1].link or link)
        assert verdict(await gate.decide(knock(None, "U"))) == (Entry.PENDING, "unknown")
        # That handshake never came to its end: its place is free again soon, but not at once.
        assert verdict(await gate.decide(knock(None, "V"))) == (Entry.REFUSED, "too_many_wait")
        house.clock.advance(600)
        assert verdict(await gate.decide(knock(None, "V"))) == (Entry.PENDING, "unknown")
        assert house.events[-1].data["others_not_told"] == 2 * MAX_KNOWN + MAX_WAITING + 3 - 60

    run(main())


def test_two_passwords_under_one_name_are_seen(house: House) -> None:
    async def main() -> None:
        gate = house.gate()
        first = await gate.decide(knock(STRONG))
        again = await gate.decide(knock(STRONG, address="10.0.0.77:1"))
        assert first.credential == again.credential != ""
        assert not gate.knocks()[0].contested
        other = await gate.decide(knock(b"another-password-of-16"))
        assert other.credential not in (first.credential, "")
        assert gate.knocks()[0].contested
        assert (await gate.decide(knock(None))).credential == ""
        assert gate.knocks()[0].contested
        # None of them is connected, so nobody knows which is the charger: it gets a password of its own.
        assert (await gate.adopt("CP-1")).outcome == "enter"

    run(main())


def test_who_is_connected_is_shown_and_not_who_would_like_to_be(house: House) -> None:
    async def main() -> None:
        gate = house.gate()
        made = knock(STRONG)
        come_in(gate, made, await gate.decide(made), Wire())
        await gate.decide(knock(STRONG))
        assert not gate.knocks()[0].contested
        await gate.decide(knock(None, address="10.0.0.66:1"))
        (info,) = gate.knocks()
        assert (info.address, info.presented, info.contested, info.count) == ("10.0.0.9:40000", "strong", True, 3)
        assert (await gate.adopt("CP-1")).outcome == "pinned"  # of the one that is here

    run(main())


@pytest.mark.announced_warnings
def test_a_transaction_that_can_not_be_kept_is_not_answered(house: House) -> None:
    async def main() -> None:
        gate = house.gate()
        made = knock(None)
        pending = come_in(gate, made, await gate.decide(made), wire := Wire())
        house.store._connection.execute("PRAGMA max_page_count = 1")
        await pending.handle(Call("1", "StopTransaction", {"reason": "x" * 8000}))
        assert wire.closed == [1013]
        house.store._connection.execute("PRAGMA max_page_count = 1000000")

    run(main())


# -- adoption


def test_adopting_pins_what_was_presented(house: House) -> None:
    async def main() -> None:
        gate = house.gate()
        made = knock(STRONG)
        pending = come_in(gate, made, await gate.decide(made), wire := Wire())
        assert (await gate.adopt("CP-1")).outcome == "pinned"
        assert wire.asked == []
        assert wire.closed == []  # it is not configured yet
        gate.update({"CP-1": (cp1(), house.peer)})
        await asyncio.sleep(0)
        assert wire.closed == [1012]
        pending.detach(wire)
        assert verdict(await gate.decide(knock(b"another-password-of-16"))) == (Entry.REFUSED, "wrong_password")
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.ADOPTED, "")
        assert house.stored("charger.security") == [{"what": "password pinned", "identity": "CP-1"}]

    run(main())


def test_adopting_one_that_left_pins_what_it_presented(house: House) -> None:
    async def main() -> None:
        gate = house.gate(1, cp1())
        assert (await gate.decide(knock(STRONG[:16].hex().encode()))).entry is Entry.PENDING
        assert gate.knocks()[0].presented == "strong"
        assert (await gate.adopt("CP-1")).outcome == "pinned"
        assert verdict(await gate.decide(knock(STRONG[:16]))) == (Entry.ADOPTED, "")

    run(main())


@pytest.mark.parametrize("presented", [None, b"short"])
@pytest.mark.parametrize(
    ("version", "answer"),
    [
        (Version.V16, {"status": "Accepted"}),
        (Version.V16, {"status": "RebootRequired"}),
        (Version.V201, {"setVariableResult": [{"attributeStatus": "Accepted"}]}),
        (Version.V21, {"setVariableResult": [{"attributeStatus": "RebootRequired"}]}),
    ],
)
def test_adopting_gives_a_password_over_the_connection(
    house: House, version: Version, answer: Payload, presented: bytes | None
) -> None:
    async def main() -> None:
        gate = house.gate(1, cp1())
        made = knock(presented)
        pending = come_in(gate, made, await gate.decide(made), wire := Wire(version, answer))
        result = await gate.adopt("CP-1")
        assert (result.outcome, result.password) == ("set", "")
        await asyncio.sleep(0)
        assert wire.closed == [1012]
        pending.detach(wire)
        assert len(wire.told) == (24 if version.two else 20)
        assert verdict(await gate.decide(knock(wire.told))) == (Entry.ADOPTED, "")
        if presented:
            assert verdict(await gate.decide(knock(presented))) == (Entry.REFUSED, "wrong_password")

    run(main())


REFUSALS: list[Payload | Exception] = [
    {"status": "Rejected"},
    {"status": "NotSupported"},
    {},
    CommandRejected("x", Refusal.NOT_CAPABLE, "NotImplemented"),
    NoAnswer("x", "no answer in 30 s"),
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_adopting_one_that_takes_no_password_shows_one_to_enter(house: House, answer: Payload | Exception) -> None:
    async def main() -> None:
        gate = house.gate(1, cp1())
        made = knock(None)
        come_in(gate, made, await gate.decide(made), wire := Wire(answer=answer))
        result = await gate.adopt("CP-1")
        await asyncio.sleep(0)
        assert result.outcome == "enter"
        assert bytes.fromhex(result.password_hex) == result.password.encode()
        assert result.password not in repr(result)
        for entered in (result.password, result.password_hex, result.password_hex.upper()):
            assert verdict(await gate.decide(knock(entered.encode()))) == (Entry.ADOPTED, "")
        left = verdict(await gate.decide(knock(wire.told)))
        unclear = isinstance(answer, NoAnswer)
        assert left == ((Entry.ADOPTED, "") if unclear else (Entry.REFUSED, "wrong_password"))
        assert (result.password.encode() == wire.told) == unclear

    run(main())


@pytest.mark.parametrize(
    ("profile", "settings"),
    [(0, None), (0, cp1()), (1, cp1(security_profile=0)), (3, cp1()), (1, cp1(password_file=Path("/nowhere")))],
)
def test_adopting_one_that_needs_no_password_of_ours(
    house: House, profile: int, settings: ChargerSettings | None
) -> None:
    gate = house.gate(profile) if settings is None else house.gate(profile, settings)
    result: AdoptResult = run(gate.adopt("CP-1"))
    assert (result.outcome, result.password) == ("nothing", "")
    assert house.store.notes(KIND) == {}


def test_adopting_once_more_locks_nobody_out(house: House) -> None:
    async def main() -> None:
        gate = await with_password(house.gate(1, cp1()))
        again = await gate.adopt("CP-1")
        assert (again.outcome, again.password) == ("nothing", "")
        assert (await gate.decide(knock(b"after a reset"))).reason == "wrong_password"
        new = await gate.adopt("CP-1")
        assert new.outcome == "enter"
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.ADOPTED, "")
        assert verdict(await gate.decide(knock(new.password.encode()))) == (Entry.ADOPTED, "")
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.REFUSED, "wrong_password")

    run(main())


def test_what_is_forgotten_must_be_adopted_anew(house: House) -> None:
    async def main() -> None:
        gate = await with_password(house.gate(1, cp1()))
        await gate.forget("CP-1")
        assert verdict(await gate.decide(knock(STRONG))) == (Entry.PENDING, "no_credential")

    run(main())


# -- what those who wait are answered


def wait_here(house: House, version: Version) -> Pending:
    async def main() -> Pending:
        gate = house.gate()
        made = knock(None)
        return come_in(gate, made, await gate.decide(made), Wire(version))

    return run(main())


PAYLOADS: dict[str, Payload] = {"BootNotification": {}, "Heartbeat": {}, "StatusNotification": {}, "Authorize": {}}


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("action", PAYLOADS)
def test_who_waits_is_answered_as_the_schemas_want(house: House, version: Version, action: str) -> None:
    pending = wait_here(house, version)
    answer = run(pending.handle(Call("1", action, {"what": "ever"})))
    assert not isinstance(answer, Fault)
    assert Schemas().deviation(version, action, answer, result=True, strict=True) == ""
    if action == "BootNotification":
        assert (answer["status"], answer["interval"]) == ("Pending", 60)
    if action == "Authorize":
        assert answer == {"idTokenInfo" if version.two else "idTagInfo": {"status": "Invalid"}}


@pytest.mark.parametrize("action", ["DataTransfer", "MeterValues", "SecurityEventNotification", "Nonsense"])
def test_who_waits_is_told_so(house: House, action: str) -> None:
    answer = run(wait_here(house, Version.V201).handle(Call("1", action, {})))
    assert isinstance(answer, Fault)
    assert answer.code == "SecurityError"


def test_no_transaction_of_one_that_waits_is_acknowledged_and_none_is_lost(house: House) -> None:
    start: Payload = {"connectorId": 1, "idTag": "04A1B2C3", "meterStart": 5, "deep": [{"idToken": {"idToken": "X9"}}]}

    async def main() -> None:
        gate = house.gate()
        made = knock(None)
        pending = come_in(gate, made, await gate.decide(made), wire := Wire())
        for _ in range(3):  # it asks again, for it got an error
            answer = await pending.handle(Call("1", "StartTransaction", start))
            assert isinstance(answer, Fault)
            assert len(house.stored("charger.unadopted_transaction")) == 1
        await pending.handle(Call("2", "StopTransaction", {"transactionId": -1, "big": "x" * 100_000}))
        first, second = house.stored("charger.unadopted_transaction")
        assert (first["identity"], first["action"]) == ("CP-1", "StartTransaction")
        assert '"meterStart":5' in str(first["payload"])
        assert "04A1B2C3" not in str(first)
        assert "X9" not in str(first)
        assert len(str(second["payload"])) == 8192
        assert int(str(second["characters"])) > 100_000
        assert wire.closed == []
        for number in range(98 + 5):
            await pending.handle(Call("3", "TransactionEvent", {"seqNo": number}))
        assert wire.closed == [1013] * 5  # without an answer: it keeps them, and repeats them when it is back
        assert len(house.stored("charger.unadopted_transaction")) == 100  # a stranger does not fill the disk
        assert house.store.note("ocpp.unadopted", "transactions") == {"count": 100}

    run(main())
