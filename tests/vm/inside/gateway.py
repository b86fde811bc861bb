"""In the guest: waiting for the gateway that systemd starts. Nothing of it is imported: that takes its time."""

import http.client
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path

HOST, API_PORT = "127.0.0.1", 8080
#: How long the gateway may take to come back. It hangs then; a loaded machine has shown 125 s.
PATIENCE_S = 400.0
JOURNAL = ("journalctl", "--no-pager", "-n40", "-u", "enlace")


def wait_for_gateway(folder: Path) -> None:
    """Until it answers; ``ready_s`` gets the time after power on. Raises ``TimeoutError``."""
    until_s = time.monotonic() + PATIENCE_S
    while not _answers():
        if time.monotonic() > until_s:
            raise TimeoutError(f"the gateway does not answer\n{run(*JOURNAL)}")
        time.sleep(0.2)
    if (restarts := run("systemctl", "show", "-P", "NRestarts", "enlace").strip()) != "0":
        raise AssertionError(f"it took {restarts} more starts\n{run(*JOURNAL)}")
    (folder / "ready_s").write_text(Path("/proc/uptime").read_text().split()[0])


def _answers() -> bool:
    try:
        with closing(http.client.HTTPConnection(HOST, API_PORT, timeout=60)) as connection:
            connection.request("GET", "/api/system/health")
            return connection.getresponse().status == 200
    except OSError:
        return False


def run(name: str, *words: str) -> str:
    """What a program says."""
    program = shutil.which(name) or name
    return subprocess.run([program, *words], capture_output=True, text=True, check=False).stdout
