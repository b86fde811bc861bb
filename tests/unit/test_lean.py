"""What a gateway that reads a bus must not load."""

import subprocess
import sys

import pytest

HEAVY = ("asammdf", "pandas", "lxml")


@pytest.mark.parametrize(
    "module", ["agent.app", "drivers.can.pycan", "drivers.can.logs", "drivers.codec.dbc", "drivers.sim.bms"]
)
def test_python_can_is_loaded_without_what_only_mf4_logs_need(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if sys.modules.get(name)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
