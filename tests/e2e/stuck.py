"""``python -m tests.e2e.stuck WHAT SITE.YAML``: a gateway in which something gets stuck when a file ``stick`` appears.

WHAT is ``writer`` (the store's thread), ``wire`` (the task of a polled device) or ``loop`` (all of it). Its patience is
cut from half a minute to a few seconds, so that nobody has to wait.
"""

import sys
import threading
import time
from pathlib import Path

import agent.alive
from agent.cli.main import main
from agent.core.clock import SystemClock
from agent.store.writer import Writer
from drivers.modbus.asker import Asker


def stick(what: str, flag: Path) -> None:
    """Put the fault in its place."""
    clock = SystemClock()
    if what == "writer":
        look = Writer._look_for_room

        def wait(self: Writer) -> None:
            if flag.exists():
                threading.Event().wait()
            look(self)

        Writer._look_for_room = wait  # type: ignore[method-assign]
        return

    async def hang(*_: object) -> object:
        if not flag.exists():  # noqa: ASYNC240 - a look of some µs
            return await ask(*_)  # type: ignore[arg-type]
        if what == "loop":
            flag.with_name("stuck").touch()
            time.sleep(600)  # noqa: ASYNC251 - that is the fault
        await clock.sleep_s(1e9)
        raise AssertionError

    ask = Asker.ask
    Asker.ask = hang  # type: ignore[assignment]


if __name__ == "__main__":
    agent.alive.STUCK_S, agent.alive.GRACE_S = 4.0, 1.0
    stick(sys.argv[1], Path(sys.argv[2]).with_name("stick"))
    sys.exit(main(["run", "--config", sys.argv[2]]))
