"""What control keeps over a restart, as notes: wishes, what a station was told, its decisions.

Rules of this file:

1. One note of kind ``wish`` holds all wishes of a station, in the order in which they came; one of kind ``station``
   holds when it was switched and what was written to it; ``decision`` is a ring of ``DECISIONS`` notes for each.
2. A note that can't be read is left out, with a line in the log: start-up never depends on it.
3. Monotonic times become wall times here. What is left of a wish is its rest by wall time, and never more than it was
   given at first; a switch of the future is taken to be just done.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.control.model import Decision, Origin, Wish
from agent.control.switching import Switched
from agent.core.clock import GOOD_CLOCK_US, Clock, is_set
from agent.core.model import Number
from agent.core.ports import Notebook

logger = logging.getLogger(__name__)

WISH, STATION, DECISION = "wish", "station", "decision"
DECISIONS = 50


@dataclass(frozen=True, slots=True)
class Standing:
    """A wish that stands, until when (monotonic; None: for ever), and for how long it was meant at first.

    ``derived``: who wants it says so again after a restart, so it is not kept.
    """

    wish: Wish
    until_s: float | None = None
    for_s: float | None = None
    derived: bool = False


@dataclass(slots=True)
class Told:
    """What a station was told: ``written`` by base name, and whether ``station.not_following`` was told last."""

    switched: Switched = field(default_factory=Switched)
    written: dict[str, Number] = field(default_factory=dict)
    alarmed: bool = False


def wish_data(wish: Wish) -> dict[str, object]:
    """A wish as JSON."""
    return {
        "key": wish.key,
        "origin": wish.origin.name,
        "on": wish.on,
        "limit_a": wish.limit_a,
        "reason": wish.reason,
        "since_us": wish.since_us,
        "until_us": wish.until_us,
    }


def wish_of(station: str, data: Mapping[str, object]) -> Wish:
    """The wish of its JSON. Raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    on, until_us = data["on"], data["until_us"]
    return Wish(
        station=station,
        key=str(data["key"]),
        origin=Origin[str(data["origin"])],
        on=None if on is None else bool(on),
        limit_a=_number(data["limit_a"]),
        reason=str(data["reason"]),
        since_us=_whole(data["since_us"]),
        until_us=None if until_us is None else _whole(until_us),
    )


def standing_data(wishes: Iterable[Standing]) -> dict[str, object]:
    """The note ``wish`` of a station."""
    return {"wishes": [{**wish_data(one.wish), "for_s": one.for_s} for one in wishes]}


def read_standing(notebook: Notebook, station: str, clock: Clock) -> list[Standing]:
    """The wishes that still stand, oldest first."""
    found = []
    for data in _dicts((notebook.note(WISH, station) or {}).get("wishes")):
        try:
            wish, for_s = wish_of(station, data), _number(data.get("for_s"))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("%s: a stored wish can't be read and is left out: %r", station, error)
            continue
        if for_s is None or wish.until_us is None:
            found.append(Standing(wish))
            continue
        # An end that a clock gave that was not set says nothing, nor does a clock that is not set now.
        known = is_set(clock) and wish.until_us >= GOOD_CLOCK_US
        rest_s = min(float(for_s), (wish.until_us - clock.now_us()) / 1e6) if known else float(for_s)
        if rest_s > 0:
            found.append(Standing(wish, clock.monotonic_s() + rest_s, float(for_s)))
    return found


def told_data(told: Told, clock: Clock) -> dict[str, object]:
    """The note ``station``."""
    now_us, now_s = clock.now_us(), clock.monotonic_s()
    switched_us = [now_us - round((now_s - one) * 1e6) for one in told.switched.at_s]
    return {
        "on": told.switched.on,
        "switched_us": switched_us,
        "written": dict(told.written),
        "alarmed": told.alarmed,
    }


def read_told(notebook: Notebook, station: str, clock: Clock) -> Told:
    """What the station was told before the restart."""
    data = notebook.note(STATION, station)
    if data is None:
        return Told()
    now_us, now_s = clock.now_us(), clock.monotonic_s()
    try:
        on, times, written = data["on"], data["switched_us"], data["written"]
        if not isinstance(times, list) or not isinstance(written, Mapping):
            raise TypeError("no list of switches, or no settings")  # noqa: TRY301 - as any other damage
        at_s = tuple(sorted(now_s - max(0.0, (now_us - _whole(one)) / 1e6) for one in times))
        numbers = {str(point): value for point, one in written.items() if (value := _number(one)) is not None}
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("%s: what it was told can't be read, it begins anew: %r", station, error)
        return Told()
    return Told(Switched(None if on is None else bool(on), at_s), numbers, bool(data.get("alarmed")))


def decision_key(station: str, number: int) -> str:
    """The key of a decision in its station's ring."""
    return f"{station}/{number % DECISIONS}"


def decision_data(number: int, decision: Decision) -> dict[str, object]:
    """The note ``decision``, which is also the event ``station.decided``."""
    return {
        "number": number,
        "station": decision.station,
        "t_us": decision.t_us,
        "on": decision.on,
        "limit_a": decision.limit_a,
        "winner": None if decision.winner is None else decision.winner.key,
        "winner_origin": None if decision.winner is None else decision.winner.origin.name,
        "reason": decision.reason,
        "wishes": [wish_data(one) for one in decision.wishes],
        "result": decision.result,
        "inputs": dict(decision.inputs),
        "follows": decision.follows,
        "drawn": decision.drawn,
    }


def read_decisions(notebook: Notebook) -> dict[str, list[tuple[int, Decision]]]:
    """The decisions of all stations, oldest first, with their numbers."""
    return decisions_of(notebook.notes(DECISION))


def decisions_of(kept: Mapping[str, Mapping[str, object]]) -> dict[str, list[tuple[int, Decision]]]:
    """The same from the notes of kind ``decision`` themselves."""
    found: dict[str, list[tuple[int, Decision]]] = {}
    for key, data in kept.items():
        try:
            number, decision = _whole(data["number"]), _decision_of(data)
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("decision %s can't be read and is left out: %r", key, error)
            continue
        found.setdefault(decision.station, []).append((number, decision))
    for one in found.values():
        one.sort(key=lambda entry: entry[0])
    return found


def _decision_of(data: Mapping[str, object]) -> Decision:
    station = str(data["station"])
    wishes = tuple(wish_of(station, one) for one in _dicts(data["wishes"]))
    on, winner, follows = data["on"], data["winner"], data.get("follows")
    origin = data.get("winner_origin")  # absent: an older note
    inputs = data.get("inputs")
    return Decision(
        station=station,
        t_us=_whole(data["t_us"]),
        on=None if on is None else bool(on),
        limit_a=_number(data["limit_a"]),
        winner=next((one for one in reversed(wishes) if one.key == winner and origin in {None, one.origin.name}), None),
        reason=str(data["reason"]),
        wishes=wishes,
        result=str(data["result"]),
        inputs={str(name): _number(one) for name, one in inputs.items()} if isinstance(inputs, Mapping) else {},
        follows=None if follows is None else bool(follows),
        drawn=str(data.get("drawn") or ""),
    )


def _dicts(value: object) -> list[Mapping[str, object]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _number(value: object) -> Number | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value
