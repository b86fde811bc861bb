"""What is told of alarms: news wait here until they are sent, the newest of each alarm wins. Pure.

Rules of this file:

1. There is one piece of news of each alarm. One that was raised, and was over before anybody was told, is told with
   both times; one that was raised again meanwhile says how often.
2. At most ``MAX_WAITING`` wait; the oldest of the mildest makes room, and is counted. What is older than ``MAX_AGE_S``
   is no news any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from agent.core.model import Event
from cloud_sync.notify.send import Message

_RAISED, _CLEARED = "alarm.raised", "alarm.cleared"
#: Somebody may be told of it again: it is news if it is still on and nobody has acknowledged it.
_AGAIN, _GOES_ON = ("alarm.unshelved", "alarm.unsuppressed"), "unacknowledged"
_LATCHED = "latched"
#: Nobody is told of it any more.
_HUSHED = ("alarm.shelved", "alarm.suppressed")
#: The mildest first.
SEVERITIES = ("info", "warning", "critical")
MAX_WAITING = 200
MAX_AGE_S = 86_400.0

_MAX_TEXT = 500
_MAX_TOLD = 20  #: of one message; the others are counted
_MAX_NAMED = 3  #: in one title


@dataclass(frozen=True, slots=True)
class News:
    """One alarm's newest. Times are µs UTC, ``heard_s`` is monotonic."""

    alarm: str
    severity: str
    text: str = ""
    device: str = ""
    why: str = ""
    done: tuple[str, ...] = ()  #: with which stations something is done, in words
    raised_us: int | None = None  #: None: it was told already
    cleared_us: int | None = None  #: None: it goes on
    latched: bool = False  #: over, and goes on acting until somebody acknowledges it
    times: int = 0  #: how often it was raised and nobody was told
    heard_s: float = 0
    hushed: bool = False  #: over while it was shelved or suppressed: news only for those who know that it was on

    @property
    def headline(self) -> str:
        """Which alarm, and how it stands."""
        if self.raised_us is None:
            return f"over: {self.alarm}"
        ended = "" if self.cleared_us is None else ", over again"
        return f"{self.severity.upper()} {self.alarm}{ended}"

    def at_least(self, severity: str) -> bool:
        """Whether it is as bad as that, or worse."""
        return SEVERITIES.index(self.severity) >= SEVERITIES.index(severity)

    @property
    def loud(self) -> bool:
        """Whether somebody must act now."""
        return self.severity == SEVERITIES[-1] and self.raised_us is not None


def news_of(event: Event, heard_s: float) -> News | None:
    """What an event has for those who are told; None where they are not: it is shelved, suppressed or on trial."""
    data = event.data
    again = event.kind in _AGAIN and data.get("state") == _GOES_ON
    raised, hushed = event.kind == _RAISED or again, bool(data.get("silent"))
    if not (raised or event.kind == _CLEARED) or data.get("shadow") or (raised and hushed):
        return None
    severity = _text(data, "severity")
    done = data.get("done")
    return News(
        alarm=event.subject,
        severity=severity if severity in SEVERITIES else "warning",
        text=_text(data, "text"),
        device=_text(data, "device"),
        why=_text(data, "why"),
        done=tuple(str(one)[:_MAX_TEXT] for one in done) if isinstance(done, list | tuple) else (),
        raised_us=event.t_us if raised else None,
        cleared_us=None if raised else event.t_us,
        latched=not raised and data.get("state") == _LATCHED,
        times=int(raised),
        heard_s=heard_s,
        hushed=hushed,
    )


def hushes(event: Event) -> bool:
    """Whether it says that nobody is to be told of an alarm any more."""
    return event.kind in _HUSHED


class Waiting:
    """The news that wait to be sent to one address."""

    def __init__(self) -> None:
        self._news: dict[str, News] = {}
        self.dropped = 0  #: made room for others, or grew too old

    def __len__(self) -> int:
        return len(self._news)

    def __contains__(self, alarm: str) -> bool:
        return alarm in self._news

    def all(self) -> list[News]:
        """All that wait, the oldest first."""
        return sorted(self._news.values(), key=lambda one: one.heard_s)

    def add(self, news: News, *, returns: bool) -> None:
        """Take news in. ``returns``: that an alarm is over is news by itself."""
        old = self._news.get(news.alarm)
        if news.raised_us is None:
            if old is not None and old.raised_us is not None:
                self._news[news.alarm] = replace(old, cleared_us=news.cleared_us, latched=news.latched)
            elif returns:
                self._put(news)
            return
        self._put(replace(news, times=news.times + (old.times if old else 0)))

    def forget(self, alarm: str) -> None:
        """Nobody is to be told of it."""
        self._news.pop(alarm, None)

    def take(self, now_s: float) -> list[News]:
        """All that wait, the oldest first; they do not wait any more."""
        self.expire(now_s)
        found, self._news = self.all(), {}
        return found

    def give_back(self, taken: Sequence[News], now_s: float) -> None:
        """They were not sent; what has come meanwhile is newer."""
        newer, self._news = self.all(), {}
        for one in (*taken, *newer):
            self.add(one, returns=True)
        self.expire(now_s)

    def only_raised(self) -> None:
        """Forget those that say no more than that an alarm is over."""
        self._news = {key: one for key, one in self._news.items() if one.raised_us is not None}

    def expire(self, now_s: float) -> None:
        """Give up what is too old."""
        fresh = {key: one for key, one in self._news.items() if now_s - one.heard_s <= MAX_AGE_S}
        self.dropped += len(self._news) - len(fresh)
        self._news = fresh

    def _put(self, news: News) -> None:
        if news.alarm not in self._news and len(self._news) >= MAX_WAITING:
            worst = min(self._news.values(), key=lambda one: (SEVERITIES.index(one.severity), one.heard_s))
            del self._news[worst.alarm]
            self.dropped += 1
        self._news[news.alarm] = news


def compose(news: Sequence[News], site: str, zone: ZoneInfo, lost: int = 0) -> Message:
    """The message that tells them, the worst first. ``lost`` others could not be kept."""
    site = " ".join(site.split())  # a title is one line
    ordered = sorted(news, key=lambda one: (-_rank(one), one.heard_s))
    kind = "over" if all(one.cleared_us is not None for one in ordered) else ordered[0].severity
    if len(ordered) == 1 and not lost:
        (one,) = ordered
        return Message(f"{site}: {one.headline}", "\n".join(_lines(one, zone)), kind)
    count = "1 alarm" if len(ordered) == 1 else f"{len(ordered)} alarms"
    named = ", ".join(one.headline for one in ordered[:_MAX_NAMED]) + (", …" if len(ordered) > _MAX_NAMED else "")
    parts = ["\n".join([one.headline, *_lines(one, zone)]) for one in ordered[:_MAX_TOLD]]
    if len(ordered) > _MAX_TOLD:
        parts.append(f"And {len(ordered) - _MAX_TOLD} more: see the gateway's page.")
    if lost:
        parts.append(f"{lost} older news could not be kept until they were told.")
    return Message(f"{site}: {count}: {named}", "\n\n".join(parts), kind)


def _rank(one: News) -> int:
    return SEVERITIES.index(one.severity) - (len(SEVERITIES) if one.cleared_us is not None else 0)


def _lines(one: News, zone: ZoneInfo) -> list[str]:
    lines = [line for line in (one.text, one.why and f"Because {one.why}") if line]
    if one.device:
        lines.append(f"Device: {one.device}")
    if one.done:
        lines.append(f"Done: {'; '.join(one.done)}")
    if one.raised_us is not None:
        lines.append(f"Since {_time(one.raised_us, zone)}")
    if one.times > 1:
        lines.append(f"Raised {one.times} times")
    if one.cleared_us is not None:
        lines.append(f"Over since {_time(one.cleared_us, zone)}")
    if one.latched:
        lines.append("Waits for somebody to acknowledge it; what it does with stations goes on until then")
    return lines


def _time(t_us: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(t_us / 1e6, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    text = "" if value is None else str(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
