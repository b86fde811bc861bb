"""What commands show at a terminal and in a pipe: colours, tables and bars for people, plain lines for programs."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.api.users import Role, UserBook
from agent.core.clock import SystemClock
from agent.core.model import Event
from agent.store.db import Store
from agent.store.settings import DATABASE, StoreSettings
from tests.e2e.site import ROOT, environment

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
BAR = re.compile("[━╸╺]{5}")
CONFIG = """\
data_dir: {folder}/data
site: {{id: depot}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: battery1, driver: can, channel: nocan7, interface: socketcan, profile: pylontech_lv}}
"""
DBC = 'VERSION ""\n\nNS_:\n\nBS_:\n\nBU_:\n\nBO_ 291 M: 8 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\n'


@dataclass(frozen=True)
class Shown:
    """What came out: of standard output and of standard error."""

    code: int
    out: str
    error: str


def at_terminal(*arguments: str, out: bool = True, error: bool = True, more: Mapping[str, str] | None = None) -> Shown:
    """Run a command with a pseudo terminal as its standard output, its standard error, or both."""
    # Of a pipe the end that is read comes first, as with a terminal the one that shows.
    ends = [pty.openpty() if terminal else os.pipe() for terminal in (out, error)]
    variables = environment(**{"TERM": "xterm-256color", "COLUMNS": "100", **(more or {})})
    child = subprocess.Popen(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        env={key: value for key, value in variables.items() if value},
        stdin=subprocess.DEVNULL,
        stdout=ends[0][1],
        stderr=ends[1][1],
    )
    for _, writing in ends:
        os.close(writing)
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(all_of, [reading for reading, _ in ends]))
    return Shown(child.wait(60), *texts)


def all_of(reading: int) -> str:
    """What comes until nobody writes any more: then a pipe ends, and a terminal has an error."""
    parts = []
    with suppress(OSError):
        while part := os.read(reading, 65_536):
            parts.append(part)
    os.close(reading)
    return b"".join(parts).decode()


def in_pipe(*arguments: str, **variables: str) -> Shown:
    return at_terminal(*arguments, out=False, error=False, more=variables)


def plain(text: str) -> str:
    """Without colours, and with the line ends of a file."""
    return COLOUR.sub("", text).replace("\r\n", "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "data").mkdir()
    users = UserBook(tmp_path / "data")
    users.add("ana", Role.ADMIN, "no password is this hash")
    users.add_token("ana", "a label", 0)
    clock = SystemClock()
    store = Store.open(tmp_path / "data" / DATABASE, clock, StoreSettings())
    try:
        store.record(Event("test.event", clock.now_us())).result(60)
    finally:
        store.close()
    return tmp_path


def test_findings_have_colours_at_a_terminal_and_none_in_a_pipe(folder: Path) -> None:
    config = str(folder / "site.yaml")
    piped = in_pipe("check", "--config", config)
    assert ESCAPE not in piped.out + piped.error
    assert [line.split(":")[0] for line in piped.out.splitlines()] == ["warning", "info"]
    shown = at_terminal("check", "--config", config)
    assert "\x1b[1;33mwarning" in shown.out
    assert plain(shown.out).split() == piped.out.replace("warning:", "warning").replace("info:", "info").split()
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}):
        grey = at_terminal("check", "--config", config, more=variables)
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", grey.out), variables
    assert plain(at_terminal("check", "--config", config, more={"TERM": "dumb"}).out) == piped.out
    assert in_pipe("check", "--config", config, FORCE_COLOR="1").out == piped.out, "a program reads it"


def test_users_and_the_ledgers_state(folder: Path) -> None:
    config = str(folder / "site.yaml")
    assert in_pipe("user", "list", "--config", config).out == "ana                      admin     tokens: a label\n"
    table = plain(at_terminal("user", "list", "--config", config).out)
    assert table.split()[:3] == ["user", "role", "tokens"]
    assert re.search(r"^ *ana +admin +a label", table, re.MULTILINE)
    piped = in_pipe("audit", "verify", "--config", config)
    assert re.fullmatch(r"the ledger: 1 events checked, .*\nin order; .*\n", piped.out)
    shown = at_terminal("audit", "verify", "--config", config)
    assert "\x1b[1;32min order" in shown.out
    assert plain(shown.out) == piped.out


def test_bars_go_to_standard_error_and_to_a_terminal_only(folder: Path) -> None:
    config, site = str(folder / "site.yaml"), folder / "data"
    piped = in_pipe("backup", str(folder / "one.tar"), "--config", config)
    assert piped.out == ""
    assert re.match(r"database: \d+\.\d MiB\nwritten: \d+\.\d MiB\nread again: \d+\.\d MiB\n", piped.error)
    assert ESCAPE not in piped.error
    shown = at_terminal("backup", str(folder / "two.tar"), "--config", config, out=False)
    assert shown.out == ""
    for what in ("database", "written", "read again"):
        assert re.search(rf"{what} +{BAR.pattern}.*100%", plain(shown.error)), (what, shown.error)
    dumb = at_terminal("backup", str(folder / "three.tar"), "--config", config, more={"TERM": "dumb"})
    assert plain(dumb.error).splitlines()[:3] == piped.error.splitlines()[:3]
    shown = at_terminal("doctor", "--config", config, "--out", str(folder / "d.zip"), out=False)
    assert BAR.search(plain(shown.error))
    assert ESCAPE not in shown.out
    assert site.is_dir()
    export = folder / "ledger.jsonl"
    export.write_text(in_pipe("audit", "export", "--config", config).out)
    for more, what in (([], "checked"), (["--file", str(export)], "ledger.jsonl")):
        shown = at_terminal("audit", "verify", "--config", config, *more, out=False)
        assert re.search(rf"{what} +{BAR.pattern}.*100%", plain(shown.error)), shown.error
        assert (shown.code, ESCAPE in shown.out) == (0, False)


def test_a_decoded_log_is_the_same_with_a_bar_beside_it(folder: Path) -> None:
    dbc, log = folder / "m.dbc", folder / "bus.log"
    dbc.write_text(DBC)
    log.write_text("".join(f"(17000000{i % 100:02d}.5) can0 123#{i % 256:02X}00000000000000\n" for i in range(20_000)))
    arguments = "decode", "--dbc", str(dbc), str(log)
    piped = in_pipe(*arguments)
    assert piped.code == 0
    assert piped.out.splitlines()[0] == (
        '{"t":1700000000.5,"channel":"can0","id":291,"extended":false,"message":"M","signals":{"s":0}}'
    )
    assert piped.error == "frames read: 20000, decoded: 20000, unknown: 0, bad: 0\n"
    shown = at_terminal(*arguments, out=False)
    assert shown.out == piped.out, "byte for byte"
    assert re.search(rf"bus\.log +{BAR.pattern}.*100%", plain(shown.error))
    assert plain(shown.error).endswith(piped.error)
    assert not BAR.search(at_terminal(*arguments).error), "results stand there"
    missing = at_terminal("decode", "--dbc", str(dbc), str(folder / "none.log"), out=False)
    assert (missing.code, "No such file" in missing.error) == (2, True)


def test_a_pipe_does_not_load_what_a_terminal_needs(folder: Path) -> None:
    code = "import sys; from agent.cli.main import main; main(sys.argv[1:]); print('rich' in sys.modules)"
    for arguments in (["check"], ["user", "list"], ["audit", "verify"], ["doctor", "--out", str(folder / "d.zip")]):
        command = [sys.executable, "-c", code, *arguments, "--config", str(folder / "site.yaml")]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False", arguments


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["check --config {0}/site.yaml", "user list --data-dir {0}/data", "keys {0}/key.pem"])
def test_an_output_that_nobody_reads_ends_a_command_without_a_word(folder: Path, words: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, told = into(writer, *words.format(folder).split(), PYTHONUNBUFFERED=unbuffered)
    finally:
        os.close(writer)
    assert (code, "Error" in told) == (141, False), told


@pytest.mark.parametrize("words", ["check --config {0}/site.yaml", "user list --data-dir {0}/data", "--help"])
def test_an_output_that_can_not_be_written_is_told_in_a_line(folder: Path, words: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, told = into(full.fileno(), *words.format(folder).split(), PYTHONUNBUFFERED="")
    assert (code, told.splitlines()[-1]) == (2, "enlace: write the output: No space left on device")


def into(stdout: int, *arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code of a command that writes there, and what it told on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stderr
