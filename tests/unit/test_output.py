"""What people see at a terminal: tables, colours and bars, of texts that come from devices and strangers."""

import io
import re
import sys
from collections.abc import Callable

import pytest

from agent.cli import scan
from agent.cli.main import main
from agent.cli.output import Progress, is_live, print_findings, print_table, print_verdict
from agent.scan_proposal import Proposal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


Screens = Callable[[], tuple[Terminal, Terminal]]


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch) -> Screens:
    """Makes standard output and standard error a terminal of 80 columns."""

    def make() -> tuple[Terminal, Terminal]:  # by the test itself: pytest puts its own there before each phase
        out, error = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", error)
        return out, error

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return make


def test_who_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert is_live(Terminal())
    assert not is_live(io.StringIO())
    for term in ("dumb", None):
        if term is None:
            monkeypatch.delenv("TERM")
        else:
            monkeypatch.setenv("TERM", term)
        assert not is_live(Terminal())


def test_nothing_that_a_stranger_wrote_commands_the_terminal(screens: Screens) -> None:
    out, _ = screens()
    evil = "a\x1b]0;title\x07b[red]c[/red] :smile:\x9b2J"
    print_table(("name",), [(evil,)])
    print_findings([("warning", evil, evil)])
    print_verdict(evil, good=False)
    text = plain(out.getvalue())
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    assert text.count("a\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}b[red]c[/red] :smile:") == 4


def test_a_long_cell_is_folded_and_none_of_it_lost(screens: Screens) -> None:
    out, _ = screens()
    print_table(("id", "text"), [("cp1", "y" * 200), ("cp2", "é€😀")])
    assert out.getvalue().count("y") == 200
    assert "é€😀" in out.getvalue()
    assert max(map(len, plain(out.getvalue()).splitlines())) <= 80


def test_colours_are_left_out_where_nobody_wants_them(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = screens()
    print_findings([("error", "it is broken", "mend it")])
    assert "\x1b[1;31merror" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out.truncate(0)
    print_findings([("error", "it is broken", "mend it")])
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", out.getvalue())
    assert plain(out.getvalue()).strip("\0").split() == ["error", "it", "is", "broken", "mend", "it"]


def test_in_a_pipe_a_finding_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings([("error", "it is broken", "mend it"), ("info", "all is well", "")])
    print_verdict("in order", good=True)
    assert capsys.readouterr().out == "error: it is broken; mend it\ninfo: all is well\nin order\n"


def test_bars_of_several_things_one_below_the_other(screens: Screens) -> None:
    out, error = screens()
    with Progress("records") as progress:
        progress.tell("copied", 1, None)
        progress.tell("copied", 3, 4)
        progress.tell("written", 9, 9)
    shown = plain(error.getvalue())
    assert re.search(r"copied .* 75% 3/4 ", shown)
    assert re.search(r"written .*100% 9/9 ", shown)
    assert error.getvalue().endswith("\x1b[?25h"), "the cursor is back"
    assert out.getvalue() == ""
    with Progress("records", alone=True) as progress:
        assert not progress.live, "the results stand there"


def test_in_a_pipe_each_thing_that_is_done_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.tell("database", 0, 3 << 20)
        progress.tell("database", 3 << 20, 3 << 20)
        progress.tell("written", 1 << 20, 1 << 20)
    assert capsys.readouterr().err == "database: 3.0 MiB\nwritten: 1.0 MiB\n"
    with Progress(quiet=True) as progress:
        progress.tell("database", 1, 1)
    assert capsys.readouterr().err == ""


def test_what_a_scan_found_is_a_table_beside_the_entries_to_paste(
    screens: Screens, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, error = screens()
    monkeypatch.setenv("COLUMNS", "120")
    entry: dict[str, str | int] = {"id": "sub1", "driver": "modbus", "url": "tcp://10.0.0.9", "unit_id": 3}
    values = {"power_w": "5 W", "energy_wh": "7 Wh", "current_a": "1 A", "voltage_v": "230 V"}
    scan._write([Proposal(entry, "a meter at 10.0.0.9", {}, values, title="SDM630")], "yaml")
    cells = [one.strip() for one in re.split(r" {2,}|\n", plain(error.getvalue())) if one.strip(" ─")]
    assert cells[:4] == ["entry", "device", "at", "reads"]
    assert cells[4:] == ["sub1", "SDM630", "tcp://10.0.0.9, 3", "power_w 5 W, energy_wh 7 Wh, current_a 1 A"]
    assert "\x1b" not in out.getvalue()
    assert "id: sub1" in out.getvalue()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("meter --protocol sml --count -1 /dev/null", "--count: '-1' is no whole number from 1 on"),
        ("meter --protocol mbus --every nan /dev/null", "--every: 'nan': write seconds, such as 2 or 0.5"),
        ("meter --protocol sml --baud x /dev/null", "--baud: 'x' is no whole number from 1 on"),
        ("upgrade --within nan x.upgrade", "--within: 'nan': write seconds, such as 2 or 0.5"),
        ("upgrade --steady -5 x.upgrade", "--steady: '-5': write seconds, such as 2 or 0.5"),
        ("replay --speed fast x.log", "--speed: must be 0 or more"),
        ("why --limit few cp1", "--limit: 'few' is no whole number from 1 on"),
    ],
)
def test_numbers_that_can_not_be_used_are_refused_in_words(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"argument {told}\n")
