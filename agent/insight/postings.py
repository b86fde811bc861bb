"""Consumption that clients post (device, kWh, time) as a register, so that nothing else needs a second way. Pure.

Rules of this file:

1. A posting is the energy of an interval, and belongs to the hour, day and month in which its time lies. Its device
   gets a register ``energy_import_wh`` that only we raise, in thousandths of a Wh, with ``source`` ``posted``.
2. (device, time) counts once. A repeated posting is a ``DUPLICATE`` and changes nothing; another energy for the same
   time is a ``CONFLICT``, for which was right nobody knows.
3. A register can't rise in the past. A posting that is older than the newest one counts, and nothing of it is lost, but
   its energy is put to the time of the newest one: ``LATE``. So many late times are remembered; further ones are
   refused, as are those so old that the rows that would tell a repetition are gone.
4. Whoever calls this stores the account (a note) before the rows, and both before the client is answered. A crash in
   between repeats: ``rows_of`` the account that was read gives the row that may be missing, and a row that is stored
   twice says the same twice.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from agent.core.model import Encoding, Kind, SignalSpec
from agent.insight.energy import POSTED

#: Late times that are remembered for each device.
MAX_LATE = 256
#: A posting of more is a mistake of the unit: 100 MWh.
MAX_KWH = 100_000.0
#: Clocks differ; what lies further in the future would make everything behind it late.
MAX_AHEAD_US = 300_000_000
_COUNTS_PER_KWH = 1_000_000

#: The kind of note that holds an account, by device.
NOTE = "posted"


class Verdict(StrEnum):
    """What became of a posting."""

    ACCEPTED = "accepted"
    LATE = "late"  #: accepted, at the time of the newest one
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Account:
    """What was posted for a device so far. Words are thousandths of a Wh, times µs UTC."""

    total: int = 0
    last_us: int | None = None
    last: int = 0  #: the energy that was posted for ``last_us``
    late: Mapping[int, int] | None = None  #: time and energy of late postings, oldest first

    @property
    def data(self) -> dict[str, object]:
        """The note."""
        late = [[t_us, word] for t_us, word in (self.late or {}).items()]
        return {"total": self.total, "last_us": self.last_us, "last": self.last, "late": late}


@dataclass(frozen=True, slots=True)
class Posted:
    """The account after a posting, the rows (time, word) to store for it, and what became of it."""

    account: Account
    verdict: Verdict
    rows: tuple[tuple[int, int], ...] = ()
    reason: str = ""
    at_us: int | None = None  #: the time that its energy was put to


def spec(device: str) -> SignalSpec:
    """The register of a device whose consumption is posted."""
    return SignalSpec(device, "energy_import_wh", "Wh", Kind.COUNTER, Encoding.INT, 0.001, source=POSTED)


def account_of(data: Mapping[str, object] | None) -> Account:
    """The account of its note; a new one of None. Raises ``ValueError`` when the note is no account."""
    if data is None:
        return Account()
    try:
        last_us = data["last_us"]
        late = {_whole(t_us): _whole(word) for t_us, word in data["late"]}  # type: ignore[attr-defined] # or it is damaged
        return Account(_whole(data["total"]), None if last_us is None else _whole(last_us), _whole(data["last"]), late)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the note of posted consumption is damaged: {error!r}") from error


def rows_of(account: Account) -> tuple[tuple[int, int], ...]:
    """The newest rows of an account: to be stored again after a start, for a crash may have cost them."""
    if account.last_us is None:
        return ()
    row = (account.last_us, account.total)
    # The register begins at 0: without that row the first energy would not be a difference.
    return ((account.last_us - 1, 0), row) if account.total == account.last and not account.late else (row,)


def post(
    account: Account,
    kwh: float,
    t_us: int,
    now_us: int,
    stored: Callable[[int], int | None],
    stored_from_us: int = 0,
) -> Posted:
    """Take a posting in.

    ``stored``: what the register rose by in the first row of that time, above all rows of earlier times; None when
    there is no such row (later rows of a time hold what came late). It is asked only for times before the newest one.
    ``stored_from_us``: from when on the rows are still there.
    """
    if not math.isfinite(kwh) or not 0 <= kwh <= MAX_KWH:
        return _refused(account, f"kwh must be 0 to {MAX_KWH:.0f}")
    if t_us > now_us + MAX_AHEAD_US:
        return _refused(account, "its time is in the future")
    if t_us <= 0:
        return _refused(account, "its time is before 1970")
    word = round(kwh * _COUNTS_PER_KWH)
    if account.last_us is None or t_us > account.last_us:
        after = replace(account, total=account.total + word, last_us=t_us, last=word)
        return Posted(after, Verdict.ACCEPTED, rows_of(after), at_us=t_us)
    known = _known(account, t_us, stored)
    if known is not None:
        same = known == word
        text = "" if same else f"{known / _COUNTS_PER_KWH:g} kWh were posted for this time before"
        return Posted(account, Verdict.DUPLICATE if same else Verdict.CONFLICT, (), text)
    return _late(account, word, t_us, stored_from_us)


def _known(account: Account, t_us: int, stored: Callable[[int], int | None]) -> int | None:
    """What was posted for that time before."""
    if t_us == account.last_us:
        return account.last
    late = (account.late or {}).get(t_us)
    return stored(t_us) if late is None else late


def _late(account: Account, word: int, t_us: int, stored_from_us: int) -> Posted:
    if t_us < stored_from_us:
        return _refused(account, "it is too old to tell whether it was posted before")
    late = account.late or {}
    if len(late) >= MAX_LATE:
        # What can no longer be posted again need not be remembered.
        late = {known: energy for known, energy in late.items() if known >= stored_from_us}
    if len(late) >= MAX_LATE:
        return _refused(account, "too many postings came later than newer ones: post them in the order of their times")
    after = replace(account, total=account.total + word, late={**late, t_us: word})
    reason = "newer ones came before it: its energy counts at the time of the newest"
    return Posted(after, Verdict.LATE, rows_of(after), reason, at_us=account.last_us)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _refused(account: Account, reason: str) -> Posted:
    return Posted(account, Verdict.REFUSED, (), reason)
