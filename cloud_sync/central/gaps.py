"""Up to where a stream is whole, and what is missing: pure. ``ledger.py`` reads and writes the rows.

Rules of this file:

1. ``upto`` is the highest number below which nothing is missing any more: stored, or given up. It only rises.
2. A hole opens a gap in the ledger as soon as a number above it is stored. That is nothing bad: live data and backlog
   come side by side, and several workers commit in any order.
3. A gap is *filled* when all of it is stored. What of it lies below the gateway's ``base`` will not come any more, for
   the gateway holds it for confirmed or gone: it is *lost*, but only after the gap was open for some time, because the
   message may still be with another worker, or in the broker's queue of one that is down.
4. What comes after its gap was given up is stored like everything else, and the ledger says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Of a stream that has more holes than this, the lowest are looked at; the others' turn comes when these are closed.
MAX_ISLANDS = 1000

#: Numbers from … to, both included.
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gap:
    """A row of the ledger. ``ripe``: it has been open long enough to be given up."""

    id: int
    from_seq: int
    to_seq: int
    ripe: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What to write. ``lost`` are new rows beside ``given_up``, the open rows that end here."""

    upto: int
    opened: Sequence[Range] = ()
    filled: Sequence[int] = ()
    given_up: Sequence[int] = ()
    lost: Sequence[Range] = ()


def settle(upto: int, base: int, islands: Sequence[Range], gaps: Sequence[Gap]) -> Settled:
    """Where a stream stands. ``islands``: what is stored above ``upto``, sorted, apart; ``gaps``: the open ones."""
    holes = _holes(upto, base, islands)
    lost = [part for hole in holes for part in _ripe_parts(hole, base, gaps)]
    missing = [part for hole in holes for part in without(hole, lost)]
    opened = [part for hole in missing for part in without(hole, [(gap.from_seq, gap.to_seq) for gap in gaps])]
    done = [gap for gap in gaps if not any(_overlap(part, gap) for part in missing)]
    given_up = [gap.id for gap in done if any(_overlap(part, gap) for part in lost)]
    filled = [gap.id for gap in done if gap.id not in given_up]
    top = max([upto, base, *(last for _, last in islands)])
    return Settled(missing[0][0] - 1 if missing else top, opened, filled, given_up, lost)


def without(whole: Range, parts: Iterable[Range]) -> list[Range]:
    """What is left of a range without these parts, which are taken in order."""
    first, last = whole
    left: list[Range] = []
    for from_seq, to_seq in sorted(parts):
        if to_seq < first or from_seq > last:
            continue
        if from_seq > first:
            left.append((first, from_seq - 1))
        first = max(first, to_seq + 1)
    if first <= last:
        left.append((first, last))
    return left


def _holes(upto: int, base: int, islands: Sequence[Range]) -> list[Range]:
    """What is missing between ``upto`` and the highest number that is known of."""
    holes, at = [], upto
    for first, last in islands:
        if first > at + 1:
            holes.append((at + 1, first - 1))
        at = max(at, last)
    if base > at:
        holes.append((at + 1, base))
    return holes


def _ripe_parts(hole: Range, base: int, gaps: Sequence[Gap]) -> list[Range]:
    """What of a hole is given up: below ``base``, and in the ledger for long enough."""
    first, last = hole[0], min(hole[1], base)
    ripe = [(max(first, gap.from_seq), min(last, gap.to_seq)) for gap in gaps if gap.ripe]
    return sorted(part for part in ripe if part[0] <= part[1])


def _overlap(part: Range, gap: Gap) -> bool:
    return part[0] <= gap.to_seq and gap.from_seq <= part[1]
