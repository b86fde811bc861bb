"""Reading and decoding a recorded log: ``enlace decode`` beside python-can and cantools doing the same."""

import argparse
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from drivers.lean import without_asammdf

with without_asammdf():
    import can
    import cantools

from agent.cli import decode
from drivers.can.logs import read_log

FRAMES = 40_000
DBC = """VERSION ""

BU_: BMS

BO_ 849 Limits: 8 BMS
 SG_ ChargeVoltage : 0|16@1+ (0.1,0) [0|0] "V" Vector__XXX
 SG_ ChargeCurrent : 16|16@1- (0.1,0) [0|0] "A" Vector__XXX
 SG_ DischargeCurrent : 32|16@1- (0.1,0) [0|0] "A" Vector__XXX
 SG_ DischargeVoltage : 48|16@1+ (0.1,0) [0|0] "V" Vector__XXX
"""


def _per_frame_us(work: Callable[[], object]) -> float:
    """CPU time of the best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / FRAMES * 1e6


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


def main() -> None:
    """Print µs per frame for reading candump, CSV and ASC, and for decoding to JSON lines."""
    chance = random.Random(1)  # noqa: S311 - test data
    payloads = [(i / 1000, chance.randbytes(8)) for i in range(FRAMES)]
    with tempfile.TemporaryDirectory() as folder:
        candump, asc, table = (Path(folder) / f"bus.{ending}" for ending in ("log", "asc", "csv"))
        candump.write_text("".join(f"({t:.6f}) can0 351#{data.hex()}\n" for t, data in payloads))
        asc.write_text(
            "base hex  timestamps absolute\n"
            + "".join(f"   {t:.6f} 1  351             Rx   d 8 {data.hex(' ')}\n" for t, data in payloads)
        )
        table.write_text(
            "Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8\n"
            + "".join(f"{t * 1e6:.0f},00000351,false,Rx,0,8,{data.hex(',')},\n" for t, data in payloads)
        )
        for log in (candump, asc):
            ours = _per_frame_us(lambda log=log: _exhaust(read_log(log)))  # type: ignore[misc] # bound on purpose
            theirs = _per_frame_us(lambda log=log: _exhaust(can.LogReader(log)))  # type: ignore[misc] # the same
            print(f"read {log.suffix[1:]}: {ours:.1f} us/frame ({ours / theirs:.2f} of python-can) target < 1.5")
        print(f"read SavvyCAN csv: {_per_frame_us(lambda: _exhaust(read_log(table))):.1f} us/frame (-) target < 20")
        _decoding(Path(folder), candump)


def _decoding(folder: Path, log: Path) -> None:
    dbc = folder / "bms.dbc"
    dbc.write_text(DBC)
    arguments = argparse.Namespace(log=str(log), dbc=[dbc], format="jsonl", labels=False)

    def ours() -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            decode.run(arguments)

    def theirs() -> None:
        database = cantools.database.load_file(dbc)
        if not isinstance(database, cantools.database.can.Database):
            sys.exit("bench: cantools made no CAN database of the DBC file")
        lines = io.StringIO()
        for message in can.LogReader(log):
            signals = database.decode_message(message.arbitration_id, bytes(message.data), decode_choices=False)
            lines.write(json.dumps({"t": message.timestamp, "channel": message.channel, "signals": signals}) + "\n")

    mine, other = _per_frame_us(ours), _per_frame_us(theirs)
    print(f"decode to JSON lines: {mine:.1f} us/frame ({mine / other:.2f} of python-can + cantools + json) target < 1")
