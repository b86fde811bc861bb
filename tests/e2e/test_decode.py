"""``enlace decode`` as its users start it: a process, its output, its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

DBC = """VERSION ""

BU_: BMS

BO_ 849 Limits: 8 BMS
 SG_ ChargeVoltage : 0|16@1+ (0.1,0) [0|0] "V" Vector__XXX
 SG_ ChargeCurrent : 16|16@1- (1,0) [0|0] "A" Vector__XXX
 SG_ Mode : 32|2@1+ (1,0) [0|3] "" Vector__XXX

BO_ 2566869221 Wide: 8 BMS
 SG_ Serial : 0|64@1+ (1,0) [0|0] "" Vector__XXX

BO_ 256 Cells: 3 BMS
 SG_ Group M : 0|8@1+ (1,0) [0|0] "" Vector__XXX
 SG_ CellA m0 : 8|16@1+ (1,0) [0|0] "mV" Vector__XXX
 SG_ CellB m1 : 8|16@1+ (1,0) [0|0] "mV" Vector__XXX

BO_ 257 Real: 4 BMS
 SG_ Power : 0|32@1- (1,0) [0|0] "W" Vector__XXX

VAL_ 849 Mode 0 "idle" 1 "charge" ;
SIG_VALTYPE_ 257 Power : 1;
"""

OTHER_DBC = """VERSION ""

BU_: BMS

BO_ 849 Hidden: 8 BMS
 SG_ All : 0|64@1+ (1,0) [0|0] "" Vector__XXX

BO_ 850 More: 1 BMS
 SG_ One : 0|8@1+ (1,0) [0|0] "" Vector__XXX
"""

LOG = """\
(10.500000) can0 351#1E02F6FF01000000
(10.600000) can0 18FF50E5#FFFFFFFFFFFFFFFF
(10.700000) can1 100#01E80C
(10.800000) can1 100#02E80C
(10.900000) can1 101#0000C07F
(11.000000) can1 101#0000A03F
(11.100000) can1 351#1E02
this line is none
(11.200000) can1 7FF#00
(11.300000) can1 351#R8
(11.400000) can1 352#05
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "bms.dbc").write_text(DBC)
    (tmp_path / "other.dbc").write_text(OTHER_DBC)
    (tmp_path / "bus.log").write_text(LOG)
    return tmp_path


def _decode(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "decode", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_json_lines_and_counts(site: Path) -> None:
    result = _decode(site, "--dbc", "bms.dbc", "bus.log")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line, parse_constant=pytest.fail) for line in result.stdout.splitlines()]
    limits = {"ChargeVoltage": 54.2, "ChargeCurrent": -10, "Mode": 1}
    assert [list(line) for line in lines] == [["t", "channel", "id", "extended", "message", "signals"]] * 5
    assert [tuple(line.values()) for line in lines] == [
        (10.5, "can0", 0x351, False, "Limits", {**limits, "ChargeVoltage": pytest.approx(54.2)}),
        (10.6, "can0", 0x18FF50E5, True, "Wide", {"Serial": 2**64 - 1}),
        (10.7, "can1", 0x100, False, "Cells", {"Group": 1, "CellB": 3304}),
        (10.9, "can1", 0x101, False, "Real", {"Power": None}),
        (11.0, "can1", 0x101, False, "Real", {"Power": 1.25}),
    ]
    assert result.stderr.splitlines() == [
        "frames read: 11, decoded: 5, unknown: 3, bad: 3",
        "  of the unknown, 1 are remote or error frames, which carry no signals",
        "  bad 1: Cells unknown_multiplexer",
        "  bad 1: Limits too_short",
        "  bad 1: unreadable_line",
    ]


def test_labels(site: Path) -> None:
    result = _decode(site, "--dbc", "bms.dbc", "--labels", "bus.log")
    assert json.loads(result.stdout.splitlines()[0])["signals"]["Mode"] == "charge"


def test_table(site: Path) -> None:
    result = _decode(site, "--dbc", "bms.dbc", "--format", "table", "--labels", "bus.log")
    head, first, second, *_ = result.stdout.splitlines()
    assert head.split() == ["time", "(s)", "channel", "id", "message", "signals"]
    assert first.split("  ")[-3:] == ["ChargeVoltage=54.2 V", "ChargeCurrent=-10 A", "Mode=charge"]
    assert first.index("Limits") == second.index("Wide") == head.index("message")


def test_of_several_dbc_files_the_first_wins(site: Path) -> None:
    result = _decode(site, "--dbc", "bms.dbc", "--dbc", "other.dbc", "bus.log")
    names = [json.loads(line)["message"] for line in result.stdout.splitlines()]
    assert names == ["Limits", "Wide", "Cells", "Real", "Real", "More"]
    assert "other.dbc:0: warning: message Hidden (0x351) is not used: bms.dbc has this identifier too" in result.stderr
    swapped = _decode(site, "--dbc", "other.dbc", "--dbc", "bms.dbc", "bus.log")
    assert json.loads(swapped.stdout.splitlines()[0])["message"] == "Hidden"


def test_standard_input(site: Path) -> None:
    result = _decode(site, "--dbc", "bms.dbc", "-", stdin="  can0  351   [8]  1E 02 F6 FF 01 00 00 00\n")
    assert result.returncode == 0, result.stderr
    line = json.loads(result.stdout)
    assert (line["t"], line["channel"], line["message"]) == (None, "can0", "Limits")


def test_a_reader_that_goes_away_ends_it_silently(site: Path) -> None:
    (site / "long.log").write_text("(10.500000) can0 351#1E02F6FF01000000\n" * 20_000)
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "decode", "--dbc", "bms.dbc", "long.log"],
        cwd=site,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["message"] == "Limits"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 0


def test_a_pipe_is_decoded_as_it_fills(site: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "decode", "--dbc", "bms.dbc", "-"],
        cwd=site,
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("(10.500000) can0 351#1E02F6FF01000000\n" * 20)
        process.stdin.flush()
        assert [json.loads(process.stdout.readline())["message"] for _ in range(20)] == ["Limits"] * 20
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(30) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_in_one_line(site: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "agent", "decode", "--dbc", "bms.dbc", "bus.log"],
            cwd=site,
            env={"PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert result.returncode == 2
    assert result.stderr.startswith("enlace: write the decoded frames: No space left on device")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dbc", "bms.dbc", "missing.log"], "read missing.log: No such file or directory"),
        (["--dbc", "missing.dbc", "bus.log"], "read missing.dbc: No such file or directory"),
        (["--dbc", "bms.dbc", "."], "read .: Is a directory"),
        (["--dbc", "empty.dbc", "bus.log"], "read empty.dbc: no usable message in it"),
        (["--dbc", "bms.dbc", "bms.dbc"], "read bms.dbc: no CAN frames found (known formats: candump"),
        (["--dbc", "bms.dbc", "empty.dbc"], "read empty.dbc: no CAN frames found"),
        (["bus.log"], "the following arguments are required: --dbc"),
        (["--dbc", "bms.dbc", "--format", "xml", "bus.log"], "invalid choice: 'xml'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(site: Path, arguments: list[str], message: str) -> None:
    (site / "empty.dbc").write_text("")
    result = _decode(site, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
