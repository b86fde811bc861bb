"""The chargers' passwords: what is the same secret, what is kept, and a change that locks nobody out."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.errors import BadData, CommandRejected, NoAnswer, StoreError, Unavailable
from agent.store.db import Store
from drivers.codec.ocpp_model import Version
from drivers.ocpp.credentials import (
    KIND,
    Credentials,
    canonical,
    finding,
    is_strong,
    new_password,
    opens,
    seal,
    told,
)
from drivers.ocpp.ports import Payload
from drivers.ocpp.settings import ChargerSettings
from drivers.ocpp.throttle import Throttle

CP1 = ChargerSettings("cp1", "CP-1")
OLD = b"the-password-before-it"
TAKEN: Payload = {"status": "Accepted"}


class Charger:
    """A ``Link`` to a charger that keeps what it is told, if it takes it, and presents it the next time."""

    version = Version.V16
    identity = "CP-1"
    address = "10.0.0.9:1"

    def __init__(self, *answers: Payload | Exception, takes: bool = True) -> None:
        self.password = OLD
        self.valid_when_told: list[bool] = []
        self._answers = iter(answers)
        self._takes = takes
        self.credentials: Credentials | None = None

    async def call(self, action: str, payload: Payload, timeout_s: float | None = None) -> Payload:
        new = bytes.fromhex(str(payload["value"]))
        assert self.credentials is not None
        sealed = self.credentials._sealed("CP-1")
        self.valid_when_told.append(any(opens(one, new) for one in sealed) and any(opens(one, OLD) for one in sealed))
        answer = next(self._answers)
        if self._takes:
            self.password = new
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self, code: int, reason: str) -> None: ...

    def set_ping(self, seconds: float) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "enlace.db", FakeClock())
    yield opened
    opened.close()


def kept(store: Store) -> int:
    note = store.note(KIND, "CP-1")
    passwords = note["passwords"] if note is not None else []
    assert isinstance(passwords, list)
    return len(passwords)


async def adopted(store: Store, charger: Charger) -> Credentials:
    credentials = Credentials(store, FakeClock())
    await credentials.put("CP-1", seal(OLD), "test", "cp1")
    charger.credentials = credentials
    return credentials


def test_tc_a_09_a_new_password_is_valid_before_it_is_told_and_alone_once_it_was_used(store: Store) -> None:
    async def main() -> None:
        charger = Charger(TAKEN)
        credentials = await adopted(store, charger)
        await credentials.rotate(charger, CP1)
        assert charger.valid_when_told == [True]
        assert await credentials.check(CP1, OLD)  # until it has come in with the new one
        assert await credentials.check(CP1, charger.password)
        assert not await credentials.check(CP1, OLD)
        assert await Credentials(store, FakeClock()).check(CP1, charger.password)
        assert kept(store) == 1
        text = str([stored.event for stored in store.events(0, 99)]) + str(store.notes(KIND))
        assert charger.password.decode() not in text
        assert charger.password.hex() not in text
        assert [stored.event.data["what"] for stored in store.events(0, 99)] == [
            "test",
            "new password told",
            "new password in use",
        ]

    asyncio.run(main())


@pytest.mark.parametrize("answer", [{"status": "Rejected"}, {"status": "NotSupported"}, {"what": 1}])
def test_tc_a_10_a_refused_password_is_withdrawn(store: Store, answer: Payload) -> None:
    async def main() -> None:
        charger = Charger(answer, takes=True)
        credentials = await adopted(store, charger)
        with pytest.raises(CommandRejected, match="it answers"):
            await credentials.rotate(charger, CP1)
        assert await credentials.check(CP1, OLD)
        assert not await credentials.check(CP1, charger.password)
        assert kept(store) == 1

    asyncio.run(main())


@pytest.mark.parametrize("error", [NoAnswer("x", "y"), Unavailable("x", "y"), BadData("x", "y")])
@pytest.mark.parametrize("takes", [True, False])
def test_when_nobody_knows_whether_it_was_taken_both_open(store: Store, error: Exception, *, takes: bool) -> None:
    async def main() -> None:
        charger = Charger(error, takes=takes)
        credentials = await adopted(store, charger)
        with pytest.raises(type(error)):
            await credentials.rotate(charger, CP1)
        assert kept(store) == 2
        assert await credentials.check(CP1, charger.password)
        assert kept(store) == (1 if takes else 2)

    asyncio.run(main())


@pytest.mark.parametrize("took", list(itertools.product([True, False], repeat=3)))
def test_whatever_of_several_changes_it_took_it_comes_in(store: Store, took: tuple[bool, ...]) -> None:
    async def main() -> None:
        charger = Charger(*(NoAnswer("x", "y") for _ in took))
        credentials = await adopted(store, charger)
        for takes in took:
            charger._takes = takes
            with pytest.raises(NoAnswer):
                await credentials.rotate(charger, CP1)
        assert await credentials.check(CP1, charger.password)

    asyncio.run(main())


def test_a_charger_that_never_takes_one_keeps_its_own_and_the_list_stays_short(store: Store) -> None:
    async def main() -> None:
        charger = Charger(*(NoAnswer("x", "y") for _ in range(10)), takes=False)
        credentials = await adopted(store, charger)
        for _ in range(10):
            with pytest.raises(NoAnswer):
                await credentials.rotate(charger, CP1)
        assert kept(store) == 4
        assert await credentials.check(CP1, OLD)

    asyncio.run(main())


def test_nothing_is_told_that_is_not_on_disk(tmp_path: Path) -> None:
    async def main() -> None:
        charger = Charger(TAKEN)
        store = Store.open(tmp_path / "enlace.db", FakeClock())
        credentials = await adopted(store, charger)
        store.close()
        with pytest.raises(StoreError):
            await credentials.rotate(charger, CP1)
        assert charger.valid_when_told == []

    asyncio.run(main())


def test_the_password_of_a_file_is_changed_there(store: Store, tmp_path: Path) -> None:
    async def main() -> None:
        charger = Charger(TAKEN)
        credentials = await adopted(store, charger)
        with pytest.raises(CommandRejected, match="stands in"):
            await credentials.rotate(charger, ChargerSettings("cp1", "CP-1", password_file=tmp_path / "p"))

    asyncio.run(main())


def test_a_damaged_note_opens_for_nobody(store: Store) -> None:
    async def main() -> None:
        credentials = Credentials(store, FakeClock())
        for damaged in ({}, {"passwords": 5}, {"passwords": "ab"}, {"passwords": [{}, 7, {"salt": "x", "hash": ""}]}):
            await store.write(KIND, "CP-1", damaged)
            assert not await credentials.check(CP1, b"")

    asyncio.run(main())


@given(st.binary(max_size=48), st.binary(max_size=48))
def test_a_hash_opens_for_the_same_secret_only(one: bytes, other: bytes) -> None:
    sealed = seal(one)
    assert opens(sealed, one)
    assert opens(sealed, other) == (canonical(one) == canonical(other))
    assert seal(one) != sealed


@given(st.binary(min_size=16, max_size=20))
def test_digits_and_bytes_are_one_secret(secret: bytes) -> None:
    for digits in (secret.hex(), secret.hex().upper()):
        assert canonical(digits.encode()) == canonical(secret)
        assert opens(seal(digits.encode()), secret)


@pytest.mark.parametrize("version", list(Version))
def test_a_new_password_is_what_the_version_allows(version: Version) -> None:
    made = {new_password(version) for _ in range(200)}
    assert len(made) == 200
    for password in made:
        assert is_strong(password.encode())
        assert password.isascii()
        assert all(one.isalnum() or one in "-_" for one in password)
        sent = told(password, version)
        assert 16 <= len(sent) <= 40
        assert canonical(sent.encode()) == canonical(password.encode()) == password.encode()


def test_what_enlace_check_says_of_a_password_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    assert "can't be read" in finding(file)
    for weak in (b"15 bytes long  ", b"0011223344556677", b"00112233445566778899"):
        file.write_bytes(weak + b"\n")
        assert ("shorter than 16" in finding(file)) == (len(weak) < 16)
    file.write_bytes(b"16 bytes of text\r\n")
    assert finding(file) == ""
    file.write_text("00" * 16)
    assert finding(file) == ""


def test_an_allowance_comes_back_with_time() -> None:
    clock = FakeClock()
    throttle = Throttle(clock, 3, 10.0, keys=2)
    assert [throttle.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert throttle.take("b")
    clock.advance(10)
    assert [throttle.take("a") for _ in range(2)] == [True, False]
    clock.advance(1000)
    assert [throttle.take("a") for _ in range(4)] == [True, True, True, False]
    assert not throttle.allows("a")
    assert throttle.take("b")
    assert throttle.take("c")  # the longest unused goes
    assert throttle.allows("a")
    assert len(throttle._whole_s) == 2
