"""In the guest of the power cuts: a snapshot of the gateway that came back, then clients that write down, outside of
the guest, what it acknowledges.

``python3 -m tests.vm.inside.cut_load FOLDER``: waits for the gateway, puts its database into ``FOLDER/enlace.db``;
then, until the power goes, posts rows to ``/api/telemetry`` and charges on OCPP 1.6, each from where the file
``FOLDER/acks`` says that it stood. A line of that file is one acknowledgement::

    posted N          a 200 for the rows up to N, each posted once
    started R T       StartTransaction with register R got transaction id T
    stopped R T       StopTransaction of T with register R was answered

The folder is the host's: a line is outside of the guest when ``os.write`` returns. Nothing of the gateway is imported:
this starts in a tenth of the time.
"""

import http.client
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.typing import Subprotocol

from tests.vm.inside.gateway import API_PORT, HOST, wait_for_gateway

OCPP = "ws://127.0.0.1:9000/ocpp/CP-1"
DATABASE = Path("/var/lib/enlace/enlace.db")
VIN, ROWS = "CUT-1", 20
#: Between two rows of the vehicle, in seconds; and the registers of one session, in Wh.
STEP_S, SESSION_WH = 0.05, 7


class Acks:
    """What such a file says."""

    def __init__(self, text: str) -> None:
        lines = [line.split() for line in text.splitlines()]
        self.posted = max((int(line[1]) for line in lines if line[0] == "posted"), default=0)
        self.started = {int(line[2]): int(line[1]) for line in lines if line[0] == "started"}
        self.stopped = {int(line[2]): int(line[1]) for line in lines if line[0] == "stopped"}


class Log(Acks):
    """The file, which grows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.read_text() if path.exists() else "")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, *words: object) -> None:
        """One more, on the host when this returns."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def row_time_us(base_us: int, number: int) -> int:
    """When row N was measured."""
    return base_us + round(number * STEP_S * 1e6)


def post(acks: Log, token: str, base_us: int) -> None:
    """Post rows for ever."""
    number = acks.posted
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(HOST, API_PORT, timeout=60)
    while True:
        rows = [
            {"vin": VIN, "ts": row_time_us(base_us, n) / 1e6, "odo_km": n, "soc": n % 100}
            for n in range(number + 1, number + ROWS + 1)
        ]
        connection.request("POST", "/api/telemetry", json.dumps(rows), headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        # Some may be stored already: the power went before the answer came.
        if answer.status != 200 or told["inserted"] + told["duplicates"] != ROWS:
            raise AssertionError(answer.status, told)
        number += ROWS
        acks.add("posted", number)


class Charger:
    """A charger on OCPP 1.6J that knows three messages, and takes what it is told as not supported."""

    def __init__(self, socket: Connection) -> None:
        self._socket = socket
        self._numbers = iter(range(1, 1 << 30))

    def call(self, action: str, **payload: object) -> dict[str, Any]:
        """The CALLRESULT to a call."""
        number = str(next(self._numbers))
        self._socket.send(json.dumps([2, number, action, payload]))
        while True:
            kind, of, *rest = json.loads(self._socket.recv(60))
            if kind == 2:
                self._socket.send(json.dumps([4, of, "NotSupported", "", {}]))
            elif kind == 3 and of == number:
                return dict(rest[0])
            else:
                raise AssertionError([kind, of, *rest])


def charge(acks: Log) -> None:
    """Sessions for ever, one after the other; one that a cut interrupted is never told of again."""
    with connect(OCPP, subprotocols=[Subprotocol("ocpp1.6")], open_timeout=60) as socket:
        charger = Charger(socket)
        boot = charger.call("BootNotification", chargePointVendor="Trial", chargePointModel="Cut")
        if boot["status"] != "Accepted":
            raise AssertionError(boot)
        for register in _registers(max([*acks.started.values(), *acks.stopped.values()], default=0)):
            begun = charger.call("StartTransaction", connectorId=1, idTag="CARD", meterStart=register, timestamp=_now())
            acks.add("started", register, begun["transactionId"])
            last = register + SESSION_WH
            charger.call("StopTransaction", transactionId=begun["transactionId"], meterStop=last, timestamp=_now())
            acks.add("stopped", last, begun["transactionId"])


def _registers(last: int) -> Iterator[int]:
    register = last + 100
    while True:
        yield register
        register += 100


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def snapshot(database: Path, to: Path) -> None:
    """One consistent state of a database that is written to, as a file that is there only when it is whole."""
    with closing(sqlite3.connect(":memory:")) as copy:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as live:
            live.backup(copy)
        to.with_suffix(".new").write_bytes(copy.serialize())
    to.with_suffix(".new").rename(to)


def main() -> None:
    """Both clients, until the power goes; ends at once, with 1, when one of them gets no answer."""
    folder = Path(sys.argv[1])
    acks = Log(folder / "acks")
    token, base = (folder / "token").read_text().strip(), int((folder / "base_us").read_text())
    wait_for_gateway(folder)
    snapshot(DATABASE, folder / DATABASE.name)
    over = threading.Event()

    def guarded(client: Any, *arguments: object) -> None:  # noqa: ANN401 - either client
        try:
            client(*arguments)
        finally:
            over.set()

    for client in ((post, acks, token, base), (charge, acks)):
        threading.Thread(target=guarded, args=client, daemon=True).start()
    over.wait()
    sys.exit(1)


if __name__ == "__main__":
    main()
