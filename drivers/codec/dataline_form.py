"""What a readout without a checksum looks like, to tell a damaged one from the meter's own: lost characters show.

Parity finds a changed bit in a character; nothing finds a character that was lost (an overrun, a reader that began too
late), and ``000122.30*kW`` less one is a good number too. Rules of this file:

1. The form of a readout is all that a meter does not change from one to the next: its codes, their order, their units,
   how many decimals a number has, and how many digits in front of them where it is filled up with zeros.
2. The first readout is believed. One much like the last one believed, but not of its form, is not; when the next
   one has its form too, it was the meter that changed. One that is little like it is another readout, and believed.
"""

import re
from collections.abc import Sequence

#: A code, its unit, decimals, digits in front of them (with and without the sign), and whether these are filled up.
Form = tuple["Part", ...]
Part = tuple[str, str | None, int, int, int, bool]

_NUMBER = re.compile(r"\s*([-+]?)(\d+)(?:\.(\d*))?\s*")
_NO_NUMBER = -1
#: So many of its parts, at least, are the same where a readout is much like another one.
_ALIKE = 0.5


def part_of(code: str, value: str, unit: str | None, *, number: bool) -> Part:
    """The part of a form that one value is; ``number``: it is one and not text."""
    found = _NUMBER.fullmatch(value) if number else None
    if found is None:
        return code, unit, _NO_NUMBER, 0, 0, False
    digits = len(found[2])
    return code, unit, len(found[3] or ""), digits, digits + len(found[1]), digits > 1 and found[2][0] == "0"


class Forms:
    """Remembers the form of the last readout believed, and of the one that was not."""

    def __init__(self) -> None:
        self._believed: Form | None = None
        self._doubted: Form | None = None

    def believe(self, parts: Sequence[Part]) -> bool:
        """Whether a readout is the meter's own, by its form."""
        form, last, doubted = tuple(parts), self._believed, self._doubted
        if last is not None and len(form) == len(last):
            alike = sum(map(_same, form, last))
            if alike == len(form):
                form = tuple(map(_joined, form, last))
            elif alike >= _ALIKE * len(form) and not (doubted and _is(form, doubted)):
                self._doubted = form
                return False
        self._believed, self._doubted = form, None
        return True


def _is(form: Form, other: Form) -> bool:
    return len(form) == len(other) and all(map(_same, form, other))


def _same(one: Part, other: Part) -> bool:
    if one[:2] != other[:2]:
        return False
    if _NO_NUMBER in {one[2], other[2]}:
        return True  # a display that shows dashes for a while
    filled = one[5] or other[5]
    return one[2] == other[2] and (not filled or one[3] == other[3] or one[4] == other[4])


def _joined(new: Part, old: Part) -> Part:
    """The part to remember: that it is filled up with zeros shows only while it is small."""
    if new[2] == _NO_NUMBER:
        return old
    return (*new[:5], new[5] or old[5])
