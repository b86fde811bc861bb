"""The energy of a session, from the registers that its charger tells. Pure: a session and a register give a session.

Rules of this file:

1. Energy is what the register moved, never the register itself: a lifetime register and one that begins at 0 with each
   session come to the same.
2. A register that is not newer than the last one says nothing: it was repeated, or it was overtaken on its way. Only
   a higher one counts that is of the same time, or more than a day older: then a clock was put back.
3. A register that went back began anew, from 0, if it can have come from there since: what it had moved before is kept
   (``base_wh``) and the new one is counted from 0. Where it can't (another register answers, a digit was lost), as
   where it jumped further than any charger can charge, only what it moves from there on counts: the energy in between
   is not known. Each such break stands in ``data["breaks"]``.
   A register that comes back to where it was goes on from there: after a jump, and after a dip to less (some chargers
   say 0 once) from which nobody can have charged as much.
4. A step back is rounding, not a break, when it is no larger than 1 Wh, or than the last digit of the coarser of two
   registers that were sent with different digits (``step_wh``): a kWh with two decimals against the Wh of begin and
   end. Registers of the same digits don't go back by rounding. While it runs the higher one stands, so that nothing is
   lost or counted twice; at the end the finer one.
5. ``meterStart`` 0 of a charger whose register then turns out to be high was never read: the first register that is
   believed is the start (``data["start"] = "sample"``).
6. The register of the end is exact: where the samples came from another register than the transaction's own two, the
   difference of these two is the energy, if that can be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.core.model import Number, Session

#: Breaks that are listed in a session, the newest; all are counted.
MAX_BREAKS = 20
#: Registers are compared over so much time more than what lies between their timestamps: clocks and meters are coarse.
SLACK_S = 60.0
#: What no outlet can charge with, whatever the configuration says of it: 400 kW.
MAX_POWER_W = 400_000
MAINS_V = 230
_DAY_US = 86_400_000_000
_S_PER_H = 3600


@dataclass(frozen=True, slots=True)
class Register:
    """An energy register as told: Wh, when (µs UTC), and the value of its last digit in Wh."""

    wh: Number
    t_us: int
    step_wh: Number = 1


@dataclass(frozen=True, slots=True)
class Rating:
    """What an outlet can charge with at most, in W, as configured."""

    power_w: Number

    def start_wh(self, elapsed_us: int) -> float:
        """What a register that began at 0 can show at most after that time."""
        return self._within(2 * self.power_w, elapsed_us)

    def jump_wh(self, elapsed_us: int) -> float:
        """What a register can have moved at most in that time: generous, for a wrong guess loses energy."""
        return self._within(max(4 * self.power_w, MAX_POWER_W), elapsed_us)

    def moved_wh(self, elapsed_us: int) -> float:
        """What a register moves in that time at the very most, by its own times."""
        return 2 * self.power_w * max(elapsed_us, 0) / 1e6 / _S_PER_H

    @staticmethod
    def _within(power_w: Number, elapsed_us: int) -> float:
        return power_w * (max(elapsed_us, 0) / 1e6 + SLACK_S) / _S_PER_H


def advance(session: Session, register: Register, rating: Rating) -> Session:
    """The session after a register was read while it ran; the same object when that says nothing new."""
    if session.start_wh is None or session.last_wh is None or session.last_us is None:
        return _from(session, register, {"start": "sample"})
    last_wh, last_us = session.last_wh, session.last_us
    if _old(last_us, last_wh, register):
        return session
    elapsed_us = register.t_us - last_us
    if _never_read(session, register, rating, elapsed_us):
        return _from(session, register, {"start": "sample", "told_start_wh": session.start_wh})
    moved = register.wh - last_wh
    if -_tolerance(session, register) <= moved <= 0:  # unchanged, or rounded
        return replace(session, last_us=register.t_us)
    if 0 < moved <= rating.jump_wh(elapsed_us) and not _dipped(session, register, rating):
        return _counted(session, register)
    return _broken(session, register, rating, elapsed_us)


def finish(session: Session, register: Register | None, rating: Rating) -> Session:
    """The session after the register of its end (None: not told, the last sample stands). ``stop_us`` is not set."""
    if register is None or _blurs(session, register):
        return session
    if session.start_wh is None or session.last_wh is None:
        return _from(session, register, {"start": "unknown"}, energy_wh=None)
    last_us = session.start_us if session.last_us is None else session.last_us
    elapsed_us = register.t_us - last_us
    if _never_read(session, register, rating, elapsed_us):
        return _from(session, register, {"start": "unknown", "told_start_wh": session.start_wh}, energy_wh=None)
    moved = register.wh - session.last_wh
    within = -_tolerance(session, register) <= moved <= rating.jump_wh(elapsed_us)
    if within and not _dipped(session, register, rating):
        return _counted(session, register)
    so_far = session.energy_wh or 0
    whole = register.wh - session.start_wh
    if "start" not in session.data and so_far <= whole <= so_far + rating.jump_wh(elapsed_us):
        return replace(
            session,
            last_wh=register.wh,
            last_us=max(register.t_us, last_us),
            energy_wh=whole,
            data={**session.data, "samples": "of another register"},
        )
    return _broken(session, register, rating, elapsed_us)


def _old(last_us: int, last_wh: Number, register: Register) -> bool:
    if register.t_us > last_us:
        return False
    return register.wh < last_wh or 0 < last_us - register.t_us <= _DAY_US


def _never_read(session: Session, register: Register, rating: Rating, elapsed_us: int) -> bool:
    untouched = session.start_wh == 0 and session.last_wh == 0 and not session.data.get("breaks")
    return untouched and register.wh > rating.start_wh(elapsed_us)


def _from(session: Session, register: Register, say: Mapping[str, object], energy_wh: Number | None = 0) -> Session:
    return replace(
        session,
        start_wh=register.wh,
        last_wh=register.wh,
        last_us=register.t_us,
        energy_wh=energy_wh,
        data=stepped({**session.data, **say}, register),
    )


def stepped(data: Mapping[str, object], register: Register) -> Mapping[str, object]:
    """The data of a session whose last register is this one."""
    if register.step_wh == data.get("step_wh", 1):
        return data
    return {**data, "step_wh": register.step_wh}


def _blurs(session: Session, register: Register) -> bool:
    """Whether it says with fewer digits what the last one said."""
    back_wh = (session.last_wh or 0) - register.wh
    coarser = register.step_wh > _number(session, "step_wh", 1)
    return coarser and session.last_wh is not None and 0 <= back_wh <= _tolerance(session, register)


def _tolerance(session: Session, register: Register) -> Number:
    """How far a register may lie below the last one and be the same (rule 4)."""
    last_step_wh = _number(session, "step_wh", 1)
    return 1 if register.step_wh == last_step_wh else max(register.step_wh, last_step_wh)


def _counted(session: Session, register: Register) -> Session:
    base, segment = _segment(session)
    return replace(
        session,
        last_wh=register.wh,
        last_us=register.t_us if session.last_us is None else max(register.t_us, session.last_us),
        energy_wh=max(base + register.wh - segment, 0),
        data=stepped(session.data, register),
    )


def _broken(session: Session, register: Register, rating: Rating, elapsed_us: int) -> Session:
    assert session.last_wh is not None  # noqa: S101 - those who call have looked
    base, segment = _segment(session)
    listed = session.data.get("breaks")
    breaks = list(listed) if isinstance(listed, list) else []
    back_wh = _before_the_break(session, register, rating)
    if back_wh is not None:
        what, segment = "came back", back_wh
    else:
        base += session.last_wh - segment
        anew = register.wh < session.last_wh and 0 <= register.wh <= rating.jump_wh(elapsed_us)
        what, segment = ("began anew", 0) if anew else ("jumped", register.wh)
    breaks.append({"t_us": register.t_us, "from_wh": session.last_wh, "to_wh": register.wh, "what": what})
    data = {
        **session.data,
        "base_wh": base,
        "segment_wh": segment,
        "breaks": breaks[-MAX_BREAKS:],
        "breaks_total": _number(session, "breaks_total", 0) + 1,
    }
    return replace(
        session,
        last_wh=register.wh,
        last_us=register.t_us if session.last_us is None else max(register.t_us, session.last_us),
        energy_wh=max(base + register.wh - segment, 0),
        data=stepped(data, register),
    )


def _before_the_break(session: Session, register: Register, rating: Rating) -> Number | None:
    """The register before the last break, when this one goes on from there; what it moved meanwhile is in this one."""
    listed = session.data.get("breaks")
    last = listed[-1] if isinstance(listed, list) and listed else None
    if not isinstance(last, Mapping) or last.get("what") == "came back":
        return None
    before, t_us = last.get("from_wh"), last.get("t_us")
    if not isinstance(before, int | float) or not isinstance(t_us, int):
        return None
    if last.get("what") == "began anew" and not _too_fast(session, register, rating, last.get("to_wh")):
        return None
    return before if 0 <= register.wh - before <= rating.jump_wh(register.t_us - t_us) else None


def _too_fast(session: Session, register: Register, rating: Rating, anew_wh: object) -> bool:
    """Whether a register that seemed to begin anew with ``anew_wh`` can't have moved from there to this one."""
    if session.last_wh is None or session.last_wh != anew_wh:
        return False
    rounded_wh = max(register.step_wh, _number(session, "step_wh", 1))
    return register.wh - session.last_wh - rounded_wh > rating.moved_wh(register.t_us - (session.last_us or 0))


def _dipped(session: Session, register: Register, rating: Rating) -> bool:
    """Whether the last register was a dip, from which this one comes back."""
    before_wh = _before_the_break(session, register, rating)
    listed = session.data.get("breaks")
    return (
        before_wh is not None
        and session.last_wh is not None
        and session.last_wh < before_wh
        and isinstance(listed, list)
        and listed[-1].get("to_wh") == session.last_wh
    )


def _segment(session: Session) -> tuple[Number, Number]:
    """Energy of the segments before the present one, and the register with which that began."""
    return _number(session, "base_wh", 0), _number(session, "segment_wh", session.start_wh or 0)


def _number(session: Session, name: str, default: Number) -> Number:
    value = session.data.get(name)
    return value if isinstance(value, int | float) else default
