"""A site whose broker was never reached: its readings wait, and count for no less than those of any other site."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e import site

SITE = """\
data_dir: {folder}/data
site: {{id: depot-7}}
api: {{listen: "127.0.0.1:0"}}
uplink: {{broker: "mqtt://127.0.0.1:9"}}
"""


def waits(path: Path) -> bool:
    """Whether the store knows that telemetry waits for somebody: what quota and retention go by."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'cursor'").fetchone() is None:
            return False
        return connection.execute("SELECT 1 FROM cursor WHERE stream = 'telemetry'").fetchone() is not None


def test_readings_wait_for_a_broker_that_was_never_reached(tmp_path: Path) -> None:
    config, log = tmp_path / "site.yaml", tmp_path / "run.log"
    config.write_text(SITE.format(folder=tmp_path))
    with site.process("agent", "run", "--config", str(config), log=log) as running:
        site.wait_until(lambda: waits(tmp_path / "data" / "enlace.db"), "telemetry waits for no one")
        assert site.end(running) == 0
