"""House rules that hold for every test: an unannounced WARNING fails it, and so does a task that it leaves behind."""

import asyncio
import logging
import shutil
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from agent import findings

USUAL_PORTS = 8080, 9000

# No test asserts how long something takes: the machines that run them are busy. And each run tries the same examples:
# what passed once passes again. ``--hypothesis-profile=search`` tries others each time, for who looks for more.
_BUSY = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("enlace", _BUSY, derandomize=True)
hypothesis.settings.register_profile("search", _BUSY, derandomize=False)
hypothesis.settings.load_profile("enlace")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in its background has it ignore Ctrl-C, and so would each program that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def clean_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that logs a warning without the mark ``announced_warnings``."""
    collector = _Collector()
    logging.getLogger().addHandler(collector)
    yield
    logging.getLogger().removeHandler(collector)
    if collector.records and request.node.get_closest_marker("announced_warnings") is None:
        lines = [f"{record.name}: {record.getMessage()}" for record in collector.records]
        pytest.fail("logged without being announced:\n" + "\n".join(lines))


@pytest.fixture(autouse=True)
def no_leaked_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test whose ``asyncio.run`` ends with tasks that nobody awaited or cancelled."""
    leaked: list[str] = []
    original = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def remember(loop: asyncio.AbstractEventLoop) -> None:
        leaked.extend(repr(task) for task in asyncio.all_tasks(loop))
        original(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", remember)
    yield
    if leaked:
        pytest.fail("left tasks behind:\n" + "\n".join(leaked))


@pytest.fixture
def free_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room on its disk, and nobody at the usual ports: ``enlace check`` says in one line more where it is otherwise."""
    usage = shutil.disk_usage("/")._replace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    look = findings.look_at_port
    monkeypatch.setattr(findings, "look_at_port", lambda *at: () if at[-1] in USUAL_PORTS else look(*at))
