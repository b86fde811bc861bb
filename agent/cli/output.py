"""How commands write their lines: JSON values, batches, and a reader that has had enough."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from math import isfinite

from agent.core.errors import Unavailable
from agent.core.model import Number

#: Lines that are written at once; what comes live is written line by line instead.
BATCH_LINES = 512


def json_value(value: Number | str | None) -> str:
    """A value in JSON, which has no NaN and no infinity: such values are null. Whole numbers stay exact."""
    if value is None or isinstance(value, str):
        return json.dumps(value)
    return repr(value) if isinstance(value, int) or isfinite(value) else "null"


def readable(value: Number | str) -> str:
    """A value for people: ten digits are more than any sensor has, and hide what binary fractions add to it."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def write_out(lines: Iterator[str], what: str, report: Callable[[], None], batch: int = BATCH_LINES) -> None:
    """Write and flush ``batch`` lines at a time to standard output, and then ``report``, also after Ctrl-C.

    Who reads the output may stop (``| head``): that ends it without a word. Raises ``Unavailable`` when it can't be
    written.
    """
    try:
        while text := "".join(islice(lines, batch)):
            sys.stdout.write(text)
            sys.stdout.flush()
    except OSError as error:
        # Python flushes once more at its end: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        raise Unavailable(f"write {what}", error.strerror or str(error), "check where they go") from error
    except KeyboardInterrupt:
        report()
        raise
    report()
