"""StartTransaction, StopTransaction and MeterValues of OCPP 1.6: its transaction is our session's number.

Rules of this file (edition 2, 4.7, 4.8, 4.10, 5.11):

1. A start is the same as another when outlet, tag, timestamp and meterStart are: it gets the same number again. Only
   where the charger's clock was not set, and that session was ended since, it is another one.
2. Chargers name transactions that we never gave (0, -1, one of their own, one of another central system). Such a stop
   or value is about the session that runs, where there is only one whose tag, time and register it can be. What the
   charger calls it is kept, for it knows no other name.
3. A stop that fits none is a record of its own. It is always answered with Accepted, or it comes for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.model import Number, Session
from drivers.codec.ocpp_model import Start, Stop, TimeQuality, Verdict
from drivers.ocpp.energy import Register, finish
from drivers.ocpp.readings import Taken, usable_wh
from drivers.ocpp.times import When
from drivers.ocpp.transactions import Book, clean, closed, ended_by_charger, timed

_NO_TIME = frozenset({TimeQuality.UNSET, TimeQuality.MISSING})
#: So often the same start can have been another one.
_MAX_AGAIN = 50


@dataclass(frozen=True, slots=True)
class Begun:
    """A start as it is answered."""

    number: int
    verdict: Verdict


async def start(book: Book, told: Start, when: When) -> Begun:
    """Store a start. Raises ``StoreError``."""
    tag, outlet, meter_wh = clean(told.id_tag), book.outlet(told.outlet), usable_wh(told.meter_wh)
    key = f"start/{outlet}/{book.id_tags.tag_hash(tag)}/{clean(told.time.text, 64)}/{_text(told.meter_wh)}"
    known = next((one for one in book.running(outlet) if one.key == key), None)
    if known is not None:
        return Begun(known.id, _verdict_of(known))
    verdict = await book.verdict(tag, outlet)
    session = Session(
        book.device,
        outlet,
        key,
        when.t_us,
        id_tag=tag,
        start_wh=meter_wh,
        last_wh=meter_wh,
        last_us=None if meter_wh is None else when.t_us,
        energy_wh=None if meter_wh is None else 0,
        data={"version": "1.6", "verdict": str(verdict), **timed(when)},
    )
    if told.reservation is not None:
        session = replace(session, data={**session.data, "reservation": told.reservation})
    stored = await _begin(book, session, verdict, when)
    return Begun(stored.id, _verdict_of(stored))


async def stop(book: Book, told: Stop, when: When, samples: Sequence[Taken]) -> None:
    """Store an end. Raises ``StoreError``."""
    meter_wh = usable_wh(told.meter_wh)
    key = f"stop/{told.transaction}/{clean(told.time.text, 64)}/{_text(told.meter_wh)}"
    session = await _stopped(book, told, key, when, meter_wh)
    if session is not None and ended_by_charger(session):
        return
    register = None if meter_wh is None else Register(meter_wh, when.t_us)
    data = {"stop": key, **timed(when, "stop_")}
    tag, reason = clean(told.id_tag), clean(told.reason)
    if session is None:
        begun = Session(
            book.device,
            book.outlet(None),
            key,
            min([when.t_us, *(sample.when.t_us for sample in samples)]),
            remote_id="" if told.transaction is None else str(told.transaction),
            id_tag=tag,
            data={"version": "1.6", "unmatched": told.transaction},
        )
        ended = closed(_finished(book, begun, samples, register), when.t_us, reason, data)
        await book.begin(ended, [book.ended(ended)])
        book.count("unmatched_stops")
        return
    if tag and tag.casefold() != session.id_tag.casefold():
        data["stopped_by"] = book.id_tags.tag_hash(tag)
    if told.transaction is not None and told.transaction != session.id:
        session = replace(session, remote_id=str(told.transaction))
    kind = "session.ended" if session.running else "session.corrected"
    ended = closed(_finished(book, session, samples, register), when.t_us, reason, data)
    await book.change(ended, [book.ended(ended, kind)])


async def values(book: Book, outlet: int, transaction: int | None, samples: Sequence[Taken]) -> None:
    """Read meter values into the session that they are about. Raises ``StoreError``."""
    session = None if transaction is None else await book.find(transaction)
    named = session is not None
    if session is None or (ended_by_charger(session) and book.current(outlet) is not None):
        # No number, one that we never gave, or one that a charger of its own numbers shares with an old session.
        session = book.current(outlet)
        samples = [] if session is None else [one for one in samples if one.when.t_us >= session.start_us]
    if session is None or not samples:
        return
    if ended_by_charger(session):
        await _after_the_end(book, session, samples)
        return
    fresh = book.read(session, samples)
    if transaction is not None and not named and fresh.remote_id != str(transaction):
        fresh = replace(fresh, remote_id=str(transaction))
    live = any(sample.when.live for sample in samples)
    if not fresh.running and live and book.current(outlet) is None:
        resumed = replace(fresh, stop_us=None, reason="")
        await book.change(resumed, [book.event("session.resumed", resumed)])
    elif fresh is not session and live and book.patient():
        await book.change(fresh, at_once=False)
    elif fresh is not session:
        book.later(fresh)


async def _begin(book: Book, session: Session, verdict: Verdict, when: When) -> Session:
    events = [book.began(session), book.judged(session, verdict, "start")]
    stored, new = await book.begin(session, events, live=when.live)
    for number in range(2, _MAX_AGAIN):
        if new or when.quality not in _NO_TIME or not ended_by_charger(stored):
            break
        again = replace(session, key=f"{session.key}#{number}")
        stored, new = await book.begin(again, events, live=when.live)
    return stored


async def _stopped(book: Book, told: Stop, key: str, when: When, meter_wh: Number | None) -> Session | None:
    """The session that a stop is about; None: none that we know of."""
    if told.transaction is not None:
        named = await book.find(told.transaction)
        if named is not None and (not ended_by_charger(named) or named.data.get("stop") == key):
            return named
        alias = await book.named(str(told.transaction))
        if alias is not None and (alias.running or alias.data.get("stop") == key):
            return alias
        # Said again after a reboot, some have another time, which must not end the session that runs meanwhile.
        again = named is not None and meter_wh is not None and meter_wh == named.last_wh and not named.remote_id
        if again or (named is not None and not book.running()):
            book.count("repeated_stops")
            return named
    fitting = [one for one in book.running() if _fits(book, one, told, when, meter_wh)]
    if len(fitting) > 1 and told.id_tag:
        fitting = [one for one in fitting if book.id_tags.same_group(one.id_tag, clean(told.id_tag))]
    return fitting[0] if len(fitting) == 1 else None


def _fits(book: Book, session: Session, told: Stop, when: When, meter_wh: Number | None) -> bool:
    if session.remote_id and session.remote_id != str(told.transaction):
        return False
    if when.told and when.t_us < session.start_us:
        return False
    if meter_wh is None or session.last_wh is None:
        return True
    elapsed_us = when.t_us - (session.last_us or session.start_us)
    return -1 <= meter_wh - session.last_wh <= book.rating.jump_wh(elapsed_us)


def _finished(book: Book, session: Session, samples: Sequence[Taken], register: Register | None) -> Session:
    return finish(book.read(session, samples), register, book.rating)


async def _after_the_end(book: Book, session: Session, samples: Sequence[Taken]) -> None:
    """Values after StopTransaction: their registers count no more, but what was signed belongs to the session."""
    fresh = book.read(session, samples)
    if fresh.data.get("signed") != session.data.get("signed"):
        await book.change(replace(session, data={**session.data, "signed": fresh.data["signed"]}), at_once=False)


def _verdict_of(session: Session) -> Verdict:
    try:
        return Verdict(str(session.data.get("verdict")))
    except ValueError:
        return Verdict.ACCEPTED


def _text(meter_wh: Number | None) -> str:
    return "" if meter_wh is None else str(meter_wh)[:32]
