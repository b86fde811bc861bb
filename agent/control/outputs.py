"""What is written to a device for a verdict. Pure.

Rules of this file:

1. Off is ``charging_enabled`` 0 where the device has that; otherwise a limit of 0 where it takes one.
2. A limit below the least that the device can give is off: less is asked than it can do. One above its most is that.
3. When it goes on the limit is written first, so that it never draws more than allowed in between.
4. What nobody wants any more is taken back: on, and the limit at its most. A setting never written is left alone.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Number
from agent.core.ports import Setting

ENABLED: Final = "charging_enabled"
LIMIT: Final = "current_limit_a"
POWER: Final = "power_limit_w"


def by_point(settings: Mapping[str, Setting], outlet: int, *, whole: bool) -> dict[str, tuple[str, Setting]]:
    """The settings of one outlet of a device: base name -> (name on the device, setting).

    ``whole``: the station is the only one of its device, or the device itself, and plain names are its own.
    """
    found = {}
    for name, setting in settings.items():
        base, _, number = name.partition(".")
        if number == str(outlet) or (whole and not number and f"{base}.{outlet}" not in settings):
            found[base] = (name, setting)
    return found


def can_switch(settings: Mapping[str, Setting]) -> bool:
    """Whether it can be switched off."""
    return ENABLED in settings or _zero(settings) is not None


def can_limit(settings: Mapping[str, Setting]) -> bool:
    """Whether its current can be limited."""
    return LIMIT in settings


def pauses(limit_a: Number | None, settings: Mapping[str, Setting]) -> bool:
    """Whether a limit is so low that the station is off by it."""
    if limit_a is None:
        return False
    least = settings[LIMIT].min if LIMIT in settings else 0
    return limit_a <= 0 or limit_a < least


def outputs(
    *, off: bool, on: bool | None, limit_a: Number | None, settings: Mapping[str, Setting], standing: Iterable[str]
) -> dict[str, Number]:
    """What is to stand in the device, by base name, in the order in which it is to be written.

    ``off``: it must not draw; ``on``: somebody's opinion that it may. ``standing``: what was written to it before.
    Raises ``CommandRejected`` (``not_capable``) when the device lacks what is needed.
    """
    if off:
        if ENABLED in settings:
            return {ENABLED: 0}
        zero = _zero(settings)
        if zero is None:
            raise CommandRejected("switch it off", Refusal.NOT_CAPABLE, "the device can't be switched")
        return {zero: 0}
    wanted: dict[str, Number] = {}
    touched = set(standing)
    limit = settings.get(LIMIT)
    if limit_a is not None:
        if limit is None:
            raise CommandRejected(f"limit it to {limit_a:g} A", Refusal.NOT_CAPABLE, "its current can't be limited")
        wanted[LIMIT] = min(limit_a, limit.max)
    for name in (LIMIT, POWER):
        setting = settings.get(name)
        switches = name == _zero(settings) and ENABLED not in settings
        if setting is not None and name not in wanted and (name in touched or (on and switches)):
            wanted[name] = setting.max
    if ENABLED in settings and (on or ENABLED in touched):
        wanted[ENABLED] = 1
    return wanted


def _zero(settings: Mapping[str, Setting]) -> str | None:
    """The limit that can be set to 0."""
    for name in (LIMIT, POWER):
        setting = settings.get(name)
        if setting is not None and (setting.zero or setting.min <= 0 <= setting.max):
            return name
    return None
