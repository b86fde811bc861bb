"""Numbers on the command line: what can't be used is refused with the words, before anything begins."""

import argparse

_DAY_S = 86_400


def seconds(text: str) -> float:
    """A time above nothing, of a day at most."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= _DAY_S:  # also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r}: write seconds, such as 2 or 0.5")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)
