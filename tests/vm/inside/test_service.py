"""In the guest: the gateway's Debian package as systemd runs it. The machine has booted with a clock that shows 1970,
without a network and without one of the configured devices; later trials set the clock right and go on.

Figures are printed. ``ENLACE_VM_STOPS``: how many times it is ended by SIGTERM.
"""

import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

STOPS = int(os.environ.get("ENLACE_VM_STOPS") or 5)
PATIENCE_S = 240.0
CONFIG, DROP_IN = Path("/etc/enlace/site.yaml"), Path("/run/systemd/system/enlace.service.d/trial.conf")
CTL = Path("/ctl")
HEALTH = "http://127.0.0.1:8080/api/system/health"
#: Blocks the event loop of whoever gets SIGUSR2: a signal handler runs in the main thread. The program is started
#: isolated from the environment (-I), but a .pth file of its library is run. Names of such a line are no globals.
HANG = "import signal; signal.signal(signal.SIGUSR2, lambda *_: __import__('time').sleep(3600))\n"


def systemctl(*words: str) -> str:
    program = shutil.which("systemctl")
    assert program is not None
    return subprocess.run([program, *words], capture_output=True, text=True, check=False).stdout.strip()


def show(name: str) -> str:
    return systemctl("show", "enlace", "--value", "-p", name)


def journal(*words: str) -> str:
    program = shutil.which("journalctl")
    assert program is not None
    done = subprocess.run([program, "--no-pager", "-q", *words], capture_output=True, text=True, check=True)
    return done.stdout


def answers() -> bool:
    try:
        with urllib.request.urlopen(HEALTH, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(true: Callable[[], bool], what: str) -> float:
    """Seconds that it took. Patience is a guard against hanging, not a measured time."""
    from_s = time.monotonic()
    while not true():
        if time.monotonic() > from_s + PATIENCE_S:
            told = journal("-u", "enlace", "-n", "40")
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}\n{systemctl('status', 'enlace')}\n{told}")
        time.sleep(0.2)
    return time.monotonic() - from_s


def now_s() -> int:
    """The right time, when the machine was switched on."""
    return int((CTL / "now").read_text())


def write_config(text: str) -> None:
    """As the file's owner: in a folder with the sticky bit the kernel takes it from nobody else, root included."""
    runuser, tee = shutil.which("runuser"), shutil.which("tee")
    assert runuser is not None
    assert tee is not None
    command = [runuser, "-u", "enlace", "--", tee, str(CONFIG)]
    subprocess.run(command, input=text, text=True, check=True, stdout=subprocess.DEVNULL)


def is_up() -> bool:
    return show("ActiveState") == "active" and answers()


def drop_in(text: str) -> None:
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f"[Service]\n{text}\n")
    systemctl("daemon-reload")


def test_it_starts_at_boot_in_1970_without_network_and_devices() -> None:
    assert systemctl("is-enabled", "enlace") == "enabled"
    until(is_up, "the service answers after the boot")
    # systemd lifts a clock that is older than itself to its own build: some months ago, wrong nonetheless.
    assert time.time() < now_s() - 86_400
    assert show("NRestarts") == "0"
    assert show("User") == "enlace"
    text = journal("-u", "enlace")
    for device in ("can9", "/dev/ttyUSB7", "192.0.2.1"):
        assert device in text, text
    assert "Traceback" not in text, text
    print(f"ready {float(show('ActiveEnterTimestampMonotonic')) / 1e6:.1f} s after the kernel started")


def test_a_clock_that_is_set_right_does_not_disturb_it() -> None:
    before = show("MainPID")
    date = shutil.which("date")
    assert date is not None
    subprocess.run([date, "-s", f"@{now_s()}"], check=True, stdout=subprocess.DEVNULL)
    until(answers, "it answers with the right time")
    assert show("MainPID") == before


def test_it_is_ready_when_it_says_so_and_not_before() -> None:
    assert show("Type") == "notify"
    for _ in range(3):
        systemctl("stop", "enlace")
        systemctl("start", "--no-block", "enlace")
        seen: set[str] = set()
        while "active" not in seen:
            state = show("ActiveState")
            seen.add(state)
            # From the moment on that it is active it must answer; before, nobody may count on it.
            assert state in {"activating", "active", "inactive"}
            if state == "active":
                assert answers()
        assert "activating" in seen
    # Started means ready: systemctl comes back when it is.
    systemctl("restart", "enlace")
    assert answers()


def test_a_hung_event_loop_is_restarted_by_the_watchdog() -> None:
    period_s = int(show("WatchdogUSec") or 0) if show("WatchdogUSec").isdigit() else _seconds(show("WatchdogUSec"))
    assert period_s > 0
    (library,) = Path("/opt/enlace/current/lib").glob("python3.*/site-packages")
    hook = library / "trial.pth"
    if not hook.exists():
        hook.write_text(HANG)
        systemctl("restart", "enlace")
    before, restarts = show("MainPID"), int(show("NRestarts"))
    systemctl("kill", "-s", "USR2", "--kill-who=main", "enlace")
    took_s = until(lambda: int(show("NRestarts")) > restarts and is_up(), "it is restarted")
    assert show("MainPID") != before
    # Each of its threads takes some lines.
    told = journal("-u", "enlace", "-n", "1000")
    assert "Watchdog timeout" in told, told
    # The watchdog's signal leaves where each thread stood.
    assert "Current thread" in told, told
    print(f"a hung loop is back after {took_s:.0f} s with WatchdogSec={period_s:.0f}")
    hook.unlink()


def _seconds(text: str) -> float:
    """systemd's way to write a span, such as ``1min 30s``."""
    units = {"min": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(min|ms|us|s)", text))


def test_sigterm_ends_it_within_ten_seconds_each_time() -> None:
    # systemd is the judge: what has not ended in ten seconds is killed, and the result says so.
    drop_in("TimeoutStopSec=10")
    took_s = []
    for _ in range(STOPS):
        from_s = time.monotonic()
        systemctl("stop", "enlace")
        took_s.append(time.monotonic() - from_s)
        assert show("Result") == "success", journal("-u", "enlace", "-n", "30")
        assert show("ExecMainStatus") == "0"
        systemctl("start", "enlace")
        assert answers()
    print(f"{STOPS} times SIGTERM: ended in {min(took_s):.1f} to {max(took_s):.1f} s, and came back")
    DROP_IN.unlink()
    systemctl("daemon-reload")


def test_a_killed_one_comes_back() -> None:
    before, restarts = show("MainPID"), int(show("NRestarts"))
    systemctl("kill", "-s", "KILL", "enlace")
    until(lambda: int(show("NRestarts")) > restarts and is_up(), "it comes back after kill -9")
    assert show("MainPID") != before


def test_a_bad_configuration_is_not_started_again() -> None:
    good = CONFIG.read_text()
    write_config(good + "nonsense: 1\n")
    try:
        systemctl("restart", "enlace")
        until(lambda: show("ActiveState") == "failed", "it gives up")
        assert show("ExecMainStatus") == "78"
        restarts = show("NRestarts")
        time.sleep(2 * _seconds(show("RestartUSec")))
        assert (show("ActiveState"), show("NRestarts")) == ("failed", restarts)
        assert "nonsense" in journal("-u", "enlace", "-n", "20")
    finally:
        write_config(good)
    systemctl("start", "enlace")
    assert answers()


def test_secrets_are_handed_over_and_their_folder_may_be_missing() -> None:
    store, handed = Path("/etc/credstore/enlace"), Path("/run/credentials/enlace.service")
    (store / "word").write_text("a secret")
    systemctl("restart", "enlace")
    assert answers()
    assert (handed / "enlace_word").read_text() == "a secret"
    shutil.rmtree(store)
    systemctl("restart", "enlace")
    assert answers(), journal("-u", "enlace", "-n", "20")
    assert not (handed / "enlace_word").exists()


@pytest.mark.skipif(not Path("/root/enlace.deb").exists(), reason="the package was not kept")
def test_it_is_installed_again_over_itself_and_purged() -> None:
    dpkg = shutil.which("dpkg")
    assert dpkg is not None
    done = subprocess.run([dpkg, "-i", "/root/enlace.deb"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    until(is_up, "it runs after the installation")
    done = subprocess.run([dpkg, "--purge", "enlace"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not Path("/opt/enlace").exists()
    assert show("LoadState") == "not-found"
