"""The trials on real SocketCAN, run in the machine: this one has vcan whatever the host's kernel has."""

from collections.abc import Callable, Sequence

import pytest

from tests.vm.image import Image
from tests.vm.machine import LEAN, NO_SERVICE, Result

pytestmark = pytest.mark.vm
FILES = ("tests/vm/test_vcan.py", "tests/vm/test_vcan_peers.py", "tests/vm/test_vcan_scan.py")
#: Two buses, interfaces that go down and up, CAN FD, and a recording that canplayer sends at 9,000 frames a second.
QUICK = (
    "tests/vm/test_vcan.py",
    "tests/vm/test_vcan_peers.py::test_two_buses_do_not_mix_and_one_goes_without_the_other",
    "tests/vm/test_vcan_peers.py::test_can_fd_from_cansend",
    "tests/vm/test_vcan_peers.py::test_9000_frames_a_second_are_stored_each_once_in_order",
)


def _run(installed: Image, run: Callable[..., Result], tests: Sequence[str]) -> None:
    command = f"cd /opt/tree && python3 -m pytest -q -s -p no:cacheprovider --durations=6 {' '.join(tests)}"
    result = run(installed, command, 1500, files={"early": NO_SERVICE + LEAN})
    print(result.output)
    assert result.code == 0, result.output + result.errors
    assert " passed" in result.output
    # What is skipped there was not tried at all.
    assert "skipped" not in result.output


def test_can_on_vcan(installed: Image, run: Callable[..., Result]) -> None:
    _run(installed, run, FILES)


@pytest.mark.quick
def test_can_on_vcan_in_short(installed: Image, run: Callable[..., Result]) -> None:
    _run(installed, run, QUICK)
