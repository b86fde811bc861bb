"""What systemd is to ``enlace upgrade``: ``upgrade_service.py ROOT CONFIG start|stop``, with the gateway as a process.

``start`` does first what the unit does, ``enlace upgrade --resume`` by the version of ``good``.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STOP_S = 60.0


def main() -> int:
    root, config, verb = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    note = root / "pid"
    if verb == "stop":
        if note.exists():
            stop(int(note.read_text()))
            note.unlink()
        return 0
    if (root / "upgrade.json").exists():
        resume = [str(root / "good" / "bin" / "enlace"), "upgrade", "--resume", "--config", config, "--root", str(root)]
        subprocess.run(resume, check=True)
    with (root / "gateway.log").open("ab") as log:
        command = [str(root / "current" / "bin" / "enlace"), "run", "--config", config]
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    note.write_text(str(child.pid))
    return 0


def stop(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
        until_s = time.monotonic() + STOP_S
        while time.monotonic() < until_s and is_there(pid):
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def is_there(pid: int) -> bool:
    """A process that nobody waits for stays as a zombie where there is no init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
