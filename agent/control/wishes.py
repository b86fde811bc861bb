"""The wishes about one station, who waits for what becomes of them, and their note.

Rules of this file:

1. A wish replaces the one of the same key about the same: a person's limit leaves her "off" alone.
2. It runs out by monotonic time from when it came; wall time is for people, and for what is left after a restart.
3. Who waits is answered once: when his wish was replaced, has run out, or its effect is known.
4. Derived wishes (of alarms, rules, load management) come as a whole by their key, again and again; they are not kept,
   for who derives them does so again after a restart. Nobody else may take them back, and they need no room.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.control import notes
from agent.control.execution import Answer
from agent.control.memory import Memory
from agent.control.model import Outcome, Wish
from agent.control.notes import Standing
from agent.core.clock import Clock

MAX_WISHES = 64


class Wishes:
    """Those about one station."""

    def __init__(self, station: str, memory: Memory, clock: Clock) -> None:
        self._station = station
        self._memory = memory
        self._clock = clock
        self._standing = notes.read_standing(memory.notebook, station, clock)
        self._waiting: list[tuple[Wish | None, asyncio.Future[Answer]]] = []
        self._saving = asyncio.Lock()

    @property
    def alive(self) -> tuple[Wish, ...]:
        """Those that stand now, oldest first."""
        now_s = self._clock.monotonic_s()
        return tuple(one.wish for one in self._standing if one.until_s is None or one.until_s > now_s)

    @property
    def next_end_s(self) -> list[float]:
        """When they run out, monotonic."""
        return [one.until_s for one in self._standing if one.until_s is not None]

    def full_for(self, wish: Wish) -> bool:
        """Whether there is no room for it."""
        others = sum(not (one.derived or _same(one.wish, wish)) for one in self._standing)
        return others >= MAX_WISHES

    def put(self, wish: Wish, for_s: float | None) -> None:
        """Let it stand."""
        self._drop(lambda one: not one.derived and _same(one.wish, wish), Outcome.SUPERSEDED)
        until_s = None if for_s is None else self._clock.monotonic_s() + for_s
        self._standing.append(Standing(wish, until_s, for_s))

    def withdraw(self, matches: Callable[[Wish], bool]) -> bool:
        """Take some back that are not derived; whether there were any."""
        return self._drop(lambda one: not one.derived and matches(one.wish), Outcome.SUPERSEDED)

    def derive(self, key: str, wishes: Sequence[Wish]) -> bool:
        """Exactly these derived ones stand under this key from now on; whether that is another meaning than before.

        One that says the same as before keeps its place and ``since_us``: its reason, inputs and end are brought up to
        date. It ends by monotonic time, counted from when its end was told.
        """
        old = [one for one in self._standing if one.derived and one.wish.key == key]
        if not old and not wishes:
            return False
        kept: dict[int, Standing] = {}
        new = []
        for wish in wishes:
            same = next((one for one in old if id(one) not in kept and _meaning(one.wish) == _meaning(wish)), None)
            standing = self._derived(wish, same)
            if standing is None:
                continue
            if same is None:
                new.append(standing)
            else:
                kept[id(same)] = standing
        changed = bool(new) or len(kept) < len(old)
        gone = {id(one) for one in old} - set(kept)
        self._standing = [kept.get(id(one), one) for one in self._standing if id(one) not in gone] + new
        return changed

    def expire(self) -> bool:
        """Forget what has run out; whether there was any. Their note stays: its reader sees that they are over."""
        alive = {id(wish) for wish in self.alive}
        return self._drop(lambda one: id(one.wish) not in alive, Outcome.EXPIRED)

    def wait(self, wish: Wish | None) -> "asyncio.Future[Answer]":
        """What becomes of a wish (None: of what was taken back)."""
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, waiter))
        return waiter

    def answer(self, answer: Callable[[Wish | None], Answer]) -> None:
        """Answer all who wait."""
        waiting, self._waiting = self._waiting, []
        for wish, waiter in waiting:
            _resolve(waiter, answer(wish))

    async def keep(self) -> None:
        """Make them outlive a restart, as they are. Never raises: what the store can't take stays in memory."""
        async with self._saving:
            told = [one for one in self._standing if not one.derived]
            data = notes.standing_data(told) if told else None
            await self._memory.write(notes.WISH, self._station, data)

    def _derived(self, wish: Wish, same: Standing | None) -> Standing | None:
        """How a derived wish stands, ``same`` being the one that said so before; None: it is over already."""
        if same is not None:
            wish = replace(wish, since_us=same.wish.since_us)
            if wish.until_us == same.wish.until_us:
                return replace(same, wish=wish)
        if wish.until_us is None:
            return Standing(wish, derived=True)
        rest_s = (wish.until_us - self._clock.now_us()) / 1e6
        return Standing(wish, self._clock.monotonic_s() + rest_s, rest_s, derived=True) if rest_s > 0 else None

    def _drop(self, matches: Callable[[Standing], bool], outcome: Outcome) -> bool:
        gone = [one.wish for one in self._standing if matches(one)]
        if not gone:
            return False
        self._standing = [one for one in self._standing if not matches(one)]
        text = "it has run out" if outcome is Outcome.EXPIRED else "a newer one took its place"
        for wish, waiter in list(self._waiting):
            if any(wish is one for one in gone):
                self._waiting.remove((wish, waiter))
                _resolve(waiter, Answer(outcome, text))
        return True


def _same(one: Wish, other: Wish) -> bool:
    """Whether both are of one issuer and about the same. Through another door (origin) he is another one."""
    return (one.key, one.origin) == (other.key, other.origin) and bool(about(one) & about(other))


def _meaning(wish: Wish) -> object:
    return wish.origin, wish.on, wish.limit_a


def about(wish: Wish) -> set[str]:
    """What it has an opinion about: ``on``, ``limit``."""
    return {name for name, opinion in (("on", wish.on), ("limit", wish.limit_a)) if opinion is not None}


def _resolve(waiter: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not waiter.done():
        waiter.set_result(answer)
