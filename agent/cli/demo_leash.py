"""Runs another program of ours that ends with its stdin: ``python -m agent.cli.demo_leash MODULE [ARGUMENT ...]``.

The demo holds the other end of that pipe. When it dies, also by SIGKILL, the kernel closes it, on Linux and macOS
alike, and the program is told to end as SIGTERM tells it: in order. The program itself knows nothing of it.
"""

import os
import runpy
import signal
import sys
import threading

_STDIN = 0
_CHUNK = 4096


def _hold() -> None:
    """Wait for the end of stdin, then tell this process to end."""
    while os.read(_STDIN, _CHUNK):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """The program: the first argument is the module, the others are its own."""
    sys.argv = sys.argv[1:]
    threading.Thread(target=_hold, name="leash", daemon=True).start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
