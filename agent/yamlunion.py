"""What is wrong with a value that may be one of several things, said once: pydantic says it for each of them.

Rules of this file:

1. `must be X, not V` and `must be Y, not V` at one place are `must be X or Y, not V`.
2. Where a finding lies within the value, or is about what it lacks, the value has the form of one of these things: that
   it is none of the others is not worth a word.
"""

import re
from collections.abc import Sequence

from agent.yamlwords import Finding

Loc = tuple[int | str, ...]
_FORM = re.compile(r"(?P<head>`[^`]*` must be )(?P<wanted>.*)(?P<tail>, not .*)", re.DOTALL)
_WHOLE, _NUMBERS = "a whole number", {"a number", "a finite number"}
_GUESS = "did you mean"


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """The findings without those that only say in which other ways a value is none of what it may be."""
    refusals: dict[Loc, list[Finding]] = {}
    others: list[Finding] = []
    for one in findings:
        if _FORM.fullmatch(one.text) and not one.at_key:
            refusals.setdefault(one.loc, []).append(one)
        else:
            others.append(one)
    places = [one.loc for one in others]
    for loc, same in refusals.items():
        within = [place for place in (*places, *refusals) if place[: len(loc)] == loc]
        if all(place == loc for place in within) and loc not in places:
            others.append(_joined(same))
    return others


def _joined(findings: Sequence[Finding]) -> Finding:
    """Findings of rule 1 as one."""
    matches = [match for one in findings if (match := _FORM.fullmatch(one.text))]
    wanted = list(dict.fromkeys(match["wanted"] for match in matches))
    if _WHOLE in wanted and not _NUMBERS.isdisjoint(wanted):
        wanted.remove(_WHOLE)
    words = wanted[0] if len(wanted) == 1 else f"{', '.join(wanted[:-1])} or {wanted[-1]}"
    hints = [one.hint for one in findings if one.hint]
    hint = next((hint for hint in hints if _GUESS in hint), hints[0] if hints else "")
    return Finding(findings[0].loc, matches[0]["head"] + words + matches[0]["tail"], hint)
