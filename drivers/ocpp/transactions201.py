"""TransactionEvent of OCPP 2.x: the charger names its transactions, we keep a session for each.

Rules of this file (2.0.1 part 2, E01 to E15; part 4, 5.):

1. A transaction is its name and the time of its start: names are unique for a charger's life (E01.FR.08), but some
   count anew after a factory reset. A Started with another time than that of the session by that name is another one.
2. The end may be all that we ever hear, an Updated may come before its Started, and all may come twice. A session is
   made at the first word of it (``begun: unseen``); a Started that comes later completes it.
3. Registers are ordered by the times of their samples. The one of the end is that of Transaction.End.
4. The vehicle may be plugged in before anybody says who pays: the tag is that of the first event that has one. And who
   pays may be known before the vehicle is plugged in (E03): the outlet is that of the first event that names one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.model import Event, Session
from drivers.codec.ocpp_model import TransactionEvent, Verdict
from drivers.ocpp.energy import Register, finish, stepped
from drivers.ocpp.id_tags import NOBODY
from drivers.ocpp.readings import Taken
from drivers.ocpp.times import When
from drivers.ocpp.transactions import Book, clean, closed, ended_by_charger, timed

STARTED, ENDED = "Started", "Ended"


@dataclass(frozen=True, slots=True)
class Heard:
    """A TransactionEvent as it is answered: the outlet that it is about, the verdict about the token in it."""

    outlet: int
    verdict: Verdict | None = None


async def event(book: Book, told: TransactionEvent, when: When, samples: Sequence[Taken]) -> Heard:
    """Store a TransactionEvent. Raises ``StoreError``."""
    name = clean(told.transaction)
    key = f"{name}/{clean(told.time.text, 64)}"
    session = await book.named(name)
    if session is not None and told.kind == STARTED and session.key != key and "begun" not in session.data:
        session = None
    verdict, asked = await _verdict(book, told, session)
    if session is None:
        session = _new(book, told, when, samples, key if told.kind == STARTED else f"{name}/unseen/{key}")
        session = _end(book, session, told, when, samples) if told.kind == ENDED else book.read(session, samples)
        events = [book.began(session), *_audit(book, session, verdict, asked)]
        if told.kind == ENDED:
            events.append(book.ended(session))
        await book.begin(session, events, live=when.live)
        return Heard(session.outlet, verdict)
    fresh = session if session.outlet else replace(session, outlet=book.outlet(told.outlet))
    if ended_by_charger(session):
        if told.kind == STARTED and session.data.get("begun") == "unseen":
            fresh = _completed(fresh, when, samples)
            await book.change(fresh, [book.ended(fresh, "session.corrected")])
        return Heard(fresh.outlet, verdict)
    if told.kind == STARTED and "begun" in session.data:
        fresh = _completed(fresh, when, samples)
    fresh = _identified(fresh, told, verdict)
    events = _audit(book, fresh, verdict, asked) if fresh.id_tag != session.id_tag else []
    if told.kind == ENDED:
        fresh = _end(book, fresh, told, when, samples)
        events.append(book.ended(fresh, "session.ended" if session.running else "session.corrected"))
    else:
        fresh = book.read(fresh, samples)
        if not fresh.running and when.live and book.current(fresh.outlet) is None:
            fresh = replace(fresh, stop_us=None, reason="")
            events.append(book.event("session.resumed", fresh))
    if fresh != session:
        # A replayed event must not wait for the group commit, thousands of them would; a live one may, now and then.
        await book.change(fresh, events, at_once=bool(events) or not when.live or not book.patient())
    return Heard(fresh.outlet, verdict)


def _new(book: Book, told: TransactionEvent, when: When, samples: Sequence[Taken], key: str) -> Session:
    begin = [one.register for one in samples if one.register and (one.begins or told.kind == STARTED)]
    register = begin[0] if begin and told.kind != ENDED else None
    data: dict[str, object] = {"version": "2", **timed(when)}
    if told.kind != STARTED:
        data["begun"] = "unseen"
    named = (("reservation", told.reservation), ("remote_start", told.remote_start_id))
    data |= {label: value for label, value in named if value is not None}
    start_us = min([when.t_us, *(one.when.t_us for one in samples)]) if told.kind == ENDED else when.t_us
    session = Session(
        book.device,
        book.outlet(told.outlet),
        key,
        start_us,
        remote_id=clean(told.transaction),
        id_tag=clean(told.id_tag),
        data=data,
    )
    if register is None:
        return session
    return _from(session, register)


def _from(session: Session, register: Register) -> Session:
    """The session that begins with this register."""
    data = stepped(session.data, register)
    return replace(session, start_wh=register.wh, last_wh=register.wh, last_us=register.t_us, energy_wh=0, data=data)


def _end(book: Book, session: Session, told: TransactionEvent, when: When, samples: Sequence[Taken]) -> Session:
    session = book.read(session, [one for one in samples if not one.ends])
    last = next((one for one in reversed(samples) if one.ends and one.register), None)
    register: Register | None = last.register if last is not None else None
    if register is not None and session.start_wh is None:
        session = book.read(session, samples)  # the only register that was ever told: nothing can be said of the energy
    else:
        session = finish(session, register, book.rating)
    session = book.read(session, [one for one in samples if one.ends and one.signed])
    data = timed(when, "stop_") | ({"trigger": clean(told.trigger)} if told.trigger else {})
    return closed(session, when.t_us, clean(told.reason) or "Local", data)


def _completed(session: Session, when: When, samples: Sequence[Taken]) -> Session:
    """A session that was made without its Started, once that has come: it began earlier, at a lower register."""
    data = {name: value for name, value in session.data.items() if name not in {"begun", "start"}}
    session = replace(session, start_us=min(when.t_us, session.start_us), data={**data, "begun": "late"})
    first = next((one.register for one in samples if one.register), None)
    if first is None:
        return session
    if session.start_wh is None:
        return _from(session, first)
    before = session.start_wh - first.wh
    if before <= 0:
        return session
    base = session.data.get("base_wh")
    if isinstance(base, int | float):
        session = replace(session, data={**session.data, "base_wh": base + before})
    return replace(session, start_wh=first.wh, energy_wh=(session.energy_wh or 0) + before)


def _identified(session: Session, told: TransactionEvent, verdict: Verdict | None) -> Session:
    tag = clean(told.id_tag)
    if not tag or session.id_tag or told.kind == ENDED:
        return session
    data = session.data if verdict is None else {**session.data, "verdict": str(verdict)}
    return replace(session, id_tag=tag, data=data)


async def _verdict(book: Book, told: TransactionEvent, session: Session | None) -> tuple[Verdict | None, str]:
    tag = clean(told.id_tag)
    if not tag and told.id_type != NOBODY:
        return None, ""
    if told.kind == ENDED:
        if session is not None and book.id_tags.same_group(session.id_tag, tag):
            return Verdict.ACCEPTED, "end"
        return await book.id_tags.verdict(tag, device=book.device, kind=told.id_type), "end"
    outlet = (session.outlet if session is not None else 0) or book.outlet(told.outlet)
    return await book.verdict(tag, outlet, session, told.id_type), "start"


def _audit(book: Book, session: Session, verdict: Verdict | None, asked: str) -> list[Event]:
    return [] if verdict is None else [book.judged(session, verdict, asked)]
