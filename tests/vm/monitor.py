"""QEMU's monitor: what is plugged into a running machine, and pulled out of it (QMP, qemu-qmp-ref)."""

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE_S = 60.0


class Monitor:
    """The monitor of the machine whose socket that is: ``with Monitor(machine.monitor) as monitor``."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r")

    def __enter__(self) -> Self:
        """Begin to talk: a greeting is waited for, and one command is needed before all others."""
        self._lines.readline()
        self._ask("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up; what is plugged in stays."""
        self._lines.close()
        self._socket.close()

    def plug(self, name: str, driver: str, **properties: object) -> None:
        """Plug a device in, such as ``usb-serial``. Raises ``AssertionError`` with what QEMU says."""
        self._ask("device_add", driver=driver, id=name, **properties)

    def pull(self, name: str) -> None:
        """Pull a device out; on PCI the guest lets go of it first, so it may take a while."""
        self._ask("device_del", id=name)

    def _ask(self, command: str, **arguments: object) -> None:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self._lines.readline())
            # Events come in between.
            if "event" not in answer:
                assert "return" in answer, f"{command} {arguments}: {answer}"
                return
