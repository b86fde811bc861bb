"""Wishes about a station -> what is to be done with it, and why, in one sentence. Pure.

Rules of this file:

1. On/off and the limit are decided apart: a wish has an opinion about one, about both, or about neither.
2. On/off: the strongest origin that has an opinion wins (trials C1: interlock > safety > grid > manual > remote >
   rule > schedule). Within one origin the newest wins, but of interlocks, safety and grid an "off" beats each "on":
   one alarm that is gone must not switch on what another one switched off.
3. Limit: those of interlocks, safety and grid accumulate, each of them is kept. Of all others only the strongest counts
   (within one origin the newest), so that a person may raise what a schedule has lowered. The limit is the lowest of
   what remains; a person can't raise it above the grid's.
4. "Newest" is the order of arrival, in which wishes are given here, never wall time: that may jump.
5. Nobody has an opinion: None, and nobody writes anything.
6. An outlet is ``under`` its charger as a whole, as sockets are under a main switch: off there is off here, whoever
   wants it on here; on there is on where nobody said otherwise here; what all may draw together no one may exceed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

from agent.control.model import Origin, Wish
from agent.core.model import Number

_TOLD = 3  #: so many of those who lost are named


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of all wishes, and whose they are."""

    on: bool | None = None
    limit_a: Number | None = None
    switcher: Wish | None = None
    limiter: Wish | None = None

    @property
    def winner(self) -> Wish | None:
        """Whose wish about on/off is done, or about the limit where nobody switches."""
        return self.switcher or self.limiter


NOBODY = Verdict()


def binding(wish: Wish) -> bool:
    """Whether it protects somebody or something, so that it adds up with others and waits for nothing."""
    return wish.origin <= Origin.GRID


def automatic(wish: Wish) -> bool:
    """Whether a machine goes on judging what it wants: no command of a person, of the cloud or of a schedule."""
    return binding(wish) or wish.origin is Origin.RULE


def decide(wishes: Sequence[Wish]) -> Verdict:
    """The verdict over the wishes about one station that stand now, oldest first."""
    newest_first = wishes[::-1]
    switchers = (wish for wish in newest_first if wish.on is not None)
    switcher = min(switchers, key=lambda wish: (wish.origin, bool(wish.on) and binding(wish)), default=None)
    limits = [wish for wish in newest_first if wish.limit_a is not None]
    chosen = min((wish for wish in limits if not binding(wish)), key=lambda wish: wish.origin, default=None)
    candidates = [wish for wish in limits if binding(wish)] + ([chosen] if chosen else [])
    limiter = min(candidates, key=lambda wish: (wish.limit_a or 0, wish.origin), default=None)
    if switcher is None and limiter is None:
        return NOBODY
    return Verdict(
        on=switcher.on if switcher else None,
        limit_a=limiter.limit_a if limiter else None,
        switcher=switcher,
        limiter=limiter,
    )


def deciders(verdict: Verdict) -> tuple[Wish, ...]:
    """Those whose wishes are done: about on/off, and about the limit."""
    found = [one for one in (verdict.switcher, verdict.limiter) if one is not None]
    return tuple(found[:1] if found[1:] == found[:1] else found)


def under(own: Verdict, whole: Verdict, outlet: str, name: str) -> Verdict:
    """What comes of the verdict of the station ``outlet`` when its charger as a whole, station ``name``, has that one.

    The wishes about the whole are shown as some about the outlet, with that as their reason.
    """
    found = own
    if whole.switcher is not None and (whole.on is False or own.on is None):
        found = replace(found, on=whole.on, switcher=_as_whole(whole.switcher, outlet, name))
    if whole.limiter is not None and (own.limit_a is None or (whole.limit_a or 0) < own.limit_a):
        found = replace(found, limit_a=whole.limit_a, limiter=_as_whole(whole.limiter, outlet, name))
    return found


def _as_whole(wish: Wish, outlet: str, name: str) -> Wish:
    return replace(wish, station=outlet, reason=f"{name} as a whole" + (f": {wish.reason}" if wish.reason else ""))


def explain(verdict: Verdict, wishes: Sequence[Wish], now_us: int, zone: tzinfo = UTC) -> str:
    """One sentence: what, by whom, since when, and who wanted otherwise. Times are those of ``zone``."""
    said = {id(one): list[str]() for one in deciders(verdict)}
    switcher, limiter = verdict.switcher, verdict.limiter
    if switcher is not None:
        said[id(switcher)].append(_switch(verdict.on))
    if limiter is not None:
        said[id(switcher if limiter == switcher else limiter)].append(f"at most {verdict.limit_a:g} A")
    parts = [f"{' and '.join(said[id(one)])} by {_whole(one, now_us, zone)}" for one in deciders(verdict)]
    if not parts:
        return "nobody wants anything of it"
    text = ", ".join(parts)
    others = list(_others(verdict, wishes, now_us, zone))
    shown = "".join(f"; {other}" for other in others[:_TOLD])
    more = f"; and {len(others) - _TOLD} more" if len(others) > _TOLD else ""
    return text + shown + more


def who(wish: Wish) -> str:
    """Whose wish it is, for people: ``schedule night_off``."""
    return wish.key.replace(":", " ", 1) if wish.key else wish.origin.name.lower()


def at(t_us: int, now_us: int, zone: tzinfo = UTC) -> str:
    """A time for people: of today the time alone."""
    then, now = (datetime.fromtimestamp(us / 1e6, zone) for us in (t_us, now_us))
    return then.strftime("%H:%M" if then.date() == now.date() else "%Y-%m-%d %H:%M")


def _switch(on: bool | None) -> str:  # noqa: FBT001 - an opinion, not a flag
    return "on" if on else "off"


def _whole(wish: Wish, now_us: int, zone: tzinfo) -> str:
    reason = f" ({wish.reason})" if wish.reason else ""
    return f"{who(wish)} since {at(wish.since_us, now_us, zone)}{_until(wish, now_us, zone)}{reason}"


def _until(wish: Wish, now_us: int, zone: tzinfo) -> str:
    return "" if wish.until_us is None else f" until {at(wish.until_us, now_us, zone)}"


def _others(verdict: Verdict, wishes: Sequence[Wish], now_us: int, zone: tzinfo) -> Iterable[str]:
    """What those wanted whose opinion is not done, the strongest first."""
    for wish in sorted(wishes, key=lambda one: one.origin):
        wanted = []
        if wish.on is not None and wish.on != verdict.on:
            wanted.append(_switch(wish.on))
        if wish.limit_a is not None and wish is not verdict.limiter and wish.limit_a != verdict.limit_a:
            wanted.append(f"{wish.limit_a:g} A")
        if wanted:
            yield f"{who(wish)} wanted {' and '.join(wanted)}{_until(wish, now_us, zone)}"
