"""How wires and the units on them are, in the words of health pages, metrics and the dashboard."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a wire is."""

    STARTING = "starting"
    ONLINE = "online"
    OFFLINE = "offline"  #: it will be tried again
    UNSUPPORTED = "unsupported"  #: it never will work as it is configured


@dataclass(frozen=True, slots=True)
class WireState:
    """A wire as health pages and metrics see it."""

    name: str
    devices: tuple[str, ...]
    state: Health
    since_us: int  #: when it came into this state, µs UTC
    last_error: str  #: the newest fault, also after it was overcome; empty when there was none
    hint: str  #: what to do about it
    next_try_s: float | None  #: seconds until the next try; None while it runs or will not be tried again
    restarts: int
    counters: Mapping[str, int]
    last_put_age_s: float | None  #: seconds since it delivered anything; None before the first time


@dataclass(frozen=True, slots=True)
class UnitState:
    """A device that is asked, or one that is silent or frozen. Its wire may be well while it is not."""

    device: str
    wire: str
    state: Health  #: starting: not asked or not answering yet; offline: silent, or its wire is
    since_us: int  #: when it came into this state, µs UTC
    last_error: str  #: the newest fault, also after it was overcome; empty when there was none
    hint: str  #: what to do about it
    next_try_s: float | None  #: seconds until it is tried again; None while it answers, never will, or is not asked
    misses: int  #: questions in a row that it did not answer well
    last_answer_age_s: float | None  #: seconds since its last good answer or telegram; None before the first one
