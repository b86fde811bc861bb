"""The simulated BMS as a process: another process on this machine hears it, and it ends cleanly when it is told to."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import can
import pytest

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
GROUP = "239.74.163.2"


def test_a_second_process_hears_the_bms_until_sigterm() -> None:
    port = free_port(socket.SOCK_DGRAM)
    try:
        bus = can.Bus(interface="udp_multicast", channel=GROUP, port=port, hop_limit=0, ignore_config=True)
    except can.CanError as error:
        pytest.skip(f"no multicast on this machine: {error}")
    command = [sys.executable, "-m", "drivers.sim.bms", "--interface", "udp_multicast", "--channel", GROUP]
    with (
        bus,
        subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            heard = set()
            while 0x1A8 not in heard or 0x1A0 not in heard:
                message = bus.recv(30)
                assert message is not None, "nothing was heard for 30 s"
                assert not message.is_extended_id
                heard.add(message.arbitration_id)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "sending on" in errors
