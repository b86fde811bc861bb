"""What a kill between two changes of the file system leaves: a child process does the work and dies on the way."""

import os
import signal
import sys
from collections.abc import Callable

#: What changes the file system, as Python's audit calls it; files that are opened for writing come on top.
CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree", "os.truncate"}


def killed_at(last: int, work: Callable[[], object], changes: frozenset[str] | set[str] = CHANGES) -> bool:
    """Do it in another process that is killed before its change of that number; whether it came to its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        flags = arguments[2] if event == "open" else 0
        if event in changes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        work()
    except BaseException:  # noqa: BLE001 - the parent is told, and goes on alone
        os._exit(1)
    os._exit(0)
