"""``enlace meter`` as its users start it: a process, its output, its exit code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drivers.sim import meter_dsmr, meter_sml
from tests.e2e import site
from tests.mbus_slaves import REST, energy, long_frame, power

NOW_US = 1_790_000_000_000_000
NOTHING = "  nothing of this protocol was found: check --protocol, for a port --baud and --framing too\n"
KEYS = ["t", "meter", "point", "code", "value", "unit"]


def meter(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return site.enlace("meter", *map(str, arguments))


def values(text: str) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_each_value_of_each_telegram_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p1.bin"
    good = meter_dsmr.telegram(NOW_US)
    broken = good.replace(b"*kW)", b"*kV)", 1)
    path.write_bytes(good[100:] + good + broken + meter_dsmr.telegram(NOW_US + 1_000_000))
    done = meter("--protocol", "dsmr", path)
    assert done.returncode == 0, done.stderr
    lines = values(done.stdout)
    assert all(list(line) == KEYS for line in lines)
    assert {line["t"] for line in lines} == {None}
    voltages = [line for line in lines if line["code"] == "1-0:32.7.0"]
    assert len(voltages) == 2
    assert voltages[0]["unit"] == "V"
    assert voltages[0]["point"] == "voltage_l1_v"
    assert isinstance(voltages[0]["value"], float)
    assert len({line["meter"] for line in lines}) == 1
    assert done.stderr.splitlines()[0] == "telegrams decoded: 2, bad: 1"


def test_hex_text_with_blanks_and_separators(tmp_path: Path) -> None:
    frame = long_frame(0x08, 5, 0x72, bytes.fromhex("78563412") + REST + bytes(4) + energy(12_345) + power(230))
    path = tmp_path / "frame.hex"
    path.write_text(" ".join(f"0x{byte:02X}," for byte in frame[:9]) + "\n" + frame[9:].hex(":") + "\n")
    done = meter("--protocol", "mbus", path)
    assert done.returncode == 0, done.stderr
    assert [list(line.values()) for line in values(done.stdout)] == [
        [None, "12345678", "energy_import_wh", "0", 12_345, "Wh"],
        [None, "12345678", "power_w", "1", 230, "W"],
    ]


def test_what_is_no_hex_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "frame.hex"
    path.write_text("68 04\nno hex\n")
    done = meter("--protocol", "mbus", path)
    assert done.returncode == 2
    assert f"{path}:2" in done.stderr
    assert not done.stdout


def test_a_table_to_read(tmp_path: Path) -> None:
    path = tmp_path / "sml.bin"
    path.write_bytes(meter_sml.telegram(NOW_US))
    done = meter("--protocol", "sml", "--format", "table", path)
    head, *rows = done.stdout.splitlines()
    assert head.startswith("meter ")
    assert any(row.split()[0] == "1-0:16.7.0*255" and row.split()[-1] == "power_w" for row in rows)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = meter("--protocol", "sml", tmp_path / "none.bin")
    assert done.returncode == 2
    assert done.stderr.startswith(f"enlace: read {tmp_path / 'none.bin'}: ")
    assert len(done.stderr.splitlines()) == 1


def test_options_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sml.bin").write_bytes(b"")
    done = meter("--protocol", "sml", "--request", tmp_path / "sml.bin")
    assert done.returncode == 2
    assert "request" in done.stderr


def test_a_live_port_gives_values_with_their_time(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    with site.process("drivers.sim.meter_sml", "--port-link", str(link), "--every-s", "0.2", log=tmp_path / "sim.log"):
        site.wait_until(link.is_symlink, "the meter's port")
        done = meter("--protocol", "sml", "--count", 2, link)
    assert done.returncode == 0, done.stderr
    times = sorted({line["t"] for line in values(done.stdout)})
    assert len(times) == 2
    assert times[0] > 1_700_000_000
    assert "telegrams decoded: 2" in done.stderr


def test_a_port_that_is_not_there_says_what_to_do() -> None:
    done = meter("--protocol", "dsmr", "/dev/serial/by-id/usb-nothing")
    assert done.returncode == 2
    assert "by-id" in done.stderr
    assert not done.stdout


def test_a_reader_that_goes_away_ends_it_silently(tmp_path: Path) -> None:
    path = tmp_path / "p1.bin"
    path.write_bytes(meter_dsmr.telegram(NOW_US) * 3000)
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "meter", "--protocol", "dsmr", str(path)],
        cwd=site.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 0


@pytest.mark.parametrize(
    ("kept", "report"),
    [
        (slice(None, -2), "telegrams decoded: 1, bad: 0\n"),
        (slice(None, -40), "telegrams decoded: 0, bad: 1\n  bad 1: truncated\n"),
        (slice(40, None), "telegrams decoded: 0, bad: 0\n" + NOTHING),
    ],
    ids=["the last line has no end", "the end is missing", "the beginning is missing"],
)
def test_a_recording_that_begins_or_ends_within_a_telegram(tmp_path: Path, kept: slice, report: str) -> None:
    path = tmp_path / "p1.txt"
    path.write_bytes(meter_dsmr.telegram(NOW_US)[kept])
    done = meter("--protocol", "dsmr", path)
    assert done.returncode == 0
    assert bool(done.stdout) is report.startswith("telegrams decoded: 1")
    assert done.stderr == report


def test_what_the_ends_of_a_stream_cut_off_is_no_bad_telegram(tmp_path: Path) -> None:
    path, one = tmp_path / "sml.bin", meter_sml.telegram(NOW_US)
    path.write_bytes(one[100:] + one + one[:100])
    done = meter("--protocol", "sml", path)
    assert done.stderr == "telegrams decoded: 1, bad: 0\n"
