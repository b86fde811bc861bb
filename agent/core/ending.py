"""How an asyncio program is told to stop, and the last thing that it does before its loop is closed.

Not by asyncio's own ``add_signal_handler``: it has signals written into a pipe, which is full after some hundred while
the loop is busy, and is closed at the end before the handlers are taken away. Each signal more prints a traceback then.
And where a handler is taken away, the next signal kills. A service manager signals all processes of a service, and a
second time; an impatient ^C does as well.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_signals(numbers: Iterable[signal.Signals], call: Callable[[], object]) -> None:
    """Have the running loop make that call for each of these signals. In the main thread."""
    loop = asyncio.get_running_loop()

    def told(_number: int, _frame: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)  # which wakes it as well

    for number in numbers:
        signal.signal(number, told)


def ignore_stop_signals() -> None:
    """All is done. For programs that end now."""
    tell = sys.unraisablehook

    def told(what: "sys.UnraisableHookArgs") -> None:
        # A signal that comes in the very moment is one of these, with a traceback: "ignored due to race condition".
        if not isinstance(what.exc_value, OSError):
            tell(what)

    sys.unraisablehook = told
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
