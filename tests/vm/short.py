"""The quick form of the trials (``make test-vm-short``, and the gate): one image, two machines side by side.

Where a machine can't do it, it says why and ends with 0: that is no fault of the program. What fails in a machine that
boots is one. ``--build`` (``make vm-image``) only makes the image, in ``$ENLACE_VM_IMAGE``, while something else runs;
then it is taken from there.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.vm.conftest import build_installed, build_package, missing
from tests.vm.image import ROOT, NoDebian, scratch

#: What runs side by side, about as long each.
LANES = {
    "service": ("tests/vm/test_service.py::test_the_service_in_short",),
    "can and cuts": (
        "tests/vm/test_can.py::test_can_on_vcan_in_short",
        "tests/vm/test_powercut.py::test_nothing_acknowledged_is_lost",
    ),
}
CUTS = 3


def build(folder: Path) -> None:
    """The image, in that folder. Raises ``NoDebian``."""
    from_s = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as name:
        made = build_installed("uml", Path(name), lambda: build_package(Path(name)))
        made.disk.rename(folder / "root.img")
    print(f"package and image: {time.monotonic() - from_s:.0f} s", flush=True)


def side_by_side(lanes: Iterable[str], folder: Path) -> list[str]:
    """Run these lanes and show what each said; those that failed."""
    from_s = time.monotonic()
    variables = {"ENLACE_VM_ENGINE": "uml", "ENLACE_VM_IMAGE": str(folder), "ENLACE_VM_CUTS": str(CUTS)}
    pytest = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-m", "vm"]
    running = {}
    with tempfile.TemporaryDirectory(prefix="enlace-vm-short-") as name:
        for lane in lanes:
            with (Path(name) / lane).open("wb") as output:
                running[lane] = subprocess.Popen(
                    [*pytest, *LANES[lane]], cwd=ROOT, env=os.environ | variables, stdout=output, stderr=output
                )
        try:
            failed = [lane for lane, process in running.items() if process.wait()]
        finally:
            # Each ends its machines when it is ended.
            for process in running.values():
                process.terminate()
                process.wait()
        for lane in running:
            print(f"--- {lane}\n{(Path(name) / lane).read_text(errors='replace')}", flush=True)
    print(f"trials in the machine: {time.monotonic() - from_s:.0f} s", flush=True)
    return failed


def trials(folder: Path) -> int:
    """Run all lanes, and what failed once more with nothing beside it; 0 if every lane passed at last."""
    failed = side_by_side(LANES, folder)
    if not failed:
        return 0
    print(f"failed: {', '.join(failed)}; once more, alone:", flush=True)
    again = [lane for lane in failed if side_by_side([lane], folder)]
    for lane in sorted(set(failed) - set(again)):
        print(f"unsteady: {lane} failed beside the other and passed alone")
    return 1 if again else 0


def main() -> int:
    """0 when all passed, or nothing can be tried here."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if lacks := missing("linux.uml"):
        print(f"skipped: the trials in a virtual machine need {lacks}")
        return 0
    made = os.environ.get("ENLACE_VM_IMAGE")
    with tempfile.TemporaryDirectory(prefix="enlace-vm-", dir=scratch()) as name:
        folder = Path(made or name)
        try:
            if not (folder / "root.img").exists():
                build(folder)
        except NoDebian as error:
            print(f"skipped: the trials in a virtual machine need Debian's packages, and mmdebstrap said\n{error}")
            return 0
        return 0 if "--build" in sys.argv else trials(folder)


if __name__ == "__main__":
    sys.exit(main())
