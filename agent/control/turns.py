"""Whose turn it is to charge where not all minimums fit. Pure: time is told.

Rules of this file:

1. Who charges goes on until his turn is over; who waits comes in the order in which they began to wait.
2. A turn lasts 15 min at most, and is shorter where more wait, so that nobody waits longer than 30 min, as far as the
   contactors allow it: no turn is shorter than a minute.
3. When turns are over and somebody waits, those go who have charged longest.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

LONGEST_TURN_S = 900.0
SHORTEST_TURN_S = 60.0
#: A minute less than 30 min: others must have made room before somebody begins.
LONGEST_WAIT_S = 1740.0

#: First elements of the keys.
_SERVED, _WAITS, _OVER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Place:
    granted: bool
    since_s: float  #: it is granted, or waits, without a break
    turn_s: float  #: when its present turn began
    came: int  #: order of arrival


class Turns:
    """The queue of those that want energy."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._came = 0
        self._over = frozenset[str]()  # whose turn was over when last looked at

    def places(self, wanting: Mapping[str, int], now_s: float) -> dict[str, tuple[float, ...]]:
        """The sort key of each, lowest first. ``wanting``: those that want energy, with their priorities."""
        self._places = {name: place for name, place in self._places.items() if name in wanting}
        for name in wanting:
            if name not in self._places:
                self._came += 1
                self._places[name] = _Place(granted=False, since_s=now_s, turn_s=now_s, came=self._came)
        turn_s = {priority: self._turn_s(wanting, priority) for priority in set(wanting.values())}
        keys = {name: _key(place, turn_s[wanting[name]], now_s) for name, place in self._places.items()}
        self._over = frozenset(name for name, key in keys.items() if key[0] == _OVER)
        return keys

    @property
    def over(self) -> frozenset[str]:
        """Whose turn is over: who waits may have their place."""
        return self._over

    def serves(self, name: str) -> bool:
        """Whether it was granted its minimum when that was told last."""
        place = self._places.get(name)
        return place is not None and place.granted

    def granted(self, names: Collection[str], now_s: float) -> None:
        """These have got their minimum, the others that want energy have not."""
        begins = any(name in names and not place.granted for name, place in self._places.items())
        for name, place in self._places.items():
            if place.granted != (name in names):
                self._places[name] = replace(place, granted=not place.granted, since_s=now_s, turn_s=now_s)
            elif begins and name in self._over:
                self._places[name] = replace(place, turn_s=now_s)

    def _turn_s(self, wanting: Mapping[str, int], priority: int) -> float:
        mine = [place for name, place in self._places.items() if wanting[name] == priority]
        served = sum(place.granted for place in mine)
        waiting = len(mine) - served
        if not waiting:
            return float("inf")
        rounds = -(-waiting // max(served, 1))
        return min(LONGEST_TURN_S, max(SHORTEST_TURN_S, LONGEST_WAIT_S / rounds))


def _key(place: _Place, turn_s: float, now_s: float) -> tuple[float, ...]:
    if not place.granted:
        return _WAITS, place.since_s, place.came
    if now_s - place.turn_s < turn_s:
        return _SERVED, place.since_s, place.came
    return _OVER, -place.since_s, place.came
