"""House rules that hold for every test: an unannounced WARNING fails it, and so does a task that it leaves behind."""

import asyncio
import logging
import signal
from collections.abc import Iterator

import pytest

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
