"""Recordings of real vehicles and batteries, replayed into SQLite and out to a subscriber: every value arrives.

Skips where the recordings are absent; nothing of them is part of the project.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import site

DATA = site.ROOT.parent / "shared" / "data" / "can"
PAIRS: dict[str, dict[str, Any]] = (
    json.loads((DATA / "pairs.expected.json").read_text()) if (DATA / "pairs.expected.json").is_file() else {}
)


def test_the_recordings_are_there() -> None:
    if not PAIRS:
        pytest.skip("no recordings beside this checkout: the replays of real logs are not tried")


@pytest.mark.parametrize("name", PAIRS)
def test_a_recording_reaches_the_subscriber(tmp_path: Path, name: str) -> None:
    pair = PAIRS[name]
    config = tmp_path / "site.yaml"
    with site.central(tmp_path, "test") as central:
        config.write_text(
            f"data_dir: {tmp_path}/data\nsite: {{id: test}}\n"
            f'devices:\n  - {{id: bms, driver: can, channel: can0, dbc: "{DATA / pair["dbc"]}"}}\n'
            f'uplink: {{broker: "{central.url}", payload: blocks}}\n'
        )
        done = site.enlace("replay", str(DATA / pair["log"]), "--config", str(config), "--speed", "0")
        assert done.returncode == 0, done.stderr
        assert f"frames replayed: {pair['frames']}," in done.stderr
        wanted = sum(columns[0] for columns in pair["signals"].values())
        site.wait_until(lambda: sum(map(len, central.values().values())) >= wanted, "all values are at the subscriber")
        values = central.values()
    # Messages that the other decoder can't unpack at all (overlapping signals) have no expected values.
    refused = {error.partition(":")[0] for error in pair["decode_errors"]}
    known = {name for name in values if name.split(".")[1] not in refused}
    assert known == {f"bms.{signal}" for signal in pair["signals"] if signal.split(".")[0] not in refused}
    for signal, (count, first, last, low, high) in pair["signals"].items():
        series = [value for value in values[f"bms.{signal}"] if value is not None]
        assert len(series) == count, signal
        assert [series[0], series[-1], min(series), max(series)] == pytest.approx([first, last, low, high]), signal
