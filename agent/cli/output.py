"""How commands write: JSON values, batches, a reader that has had enough; and for people tables, colours and bars.

Rules of this file:

1. What a pipe or a file gets is plain, and never changes for the sake of people: programs read it.
2. Who looks at a terminal gets more: ``is_live`` says for each stream. ``NO_COLOR`` and ``TERM=dumb`` are heard.
3. Bars go to standard error. ``rich`` is loaded for a terminal only.
"""

import errno
import io
import json
import os
import re
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

from agent.core.errors import Unavailable
from agent.core.model import BadFrame, Number

if TYPE_CHECKING:
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.progress import TaskID

    from drivers.can.logs import LogFrame

#: Lines that are written at once; what comes live is written line by line instead.
BATCH_LINES = 512


def json_value(value: Number | str | None) -> str:
    """A value in JSON, which has no NaN and no infinity: such values are null. Whole numbers stay exact."""
    if value is None or isinstance(value, str):
        return json.dumps(value)
    return repr(value) if isinstance(value, int) or isfinite(value) else "null"


def readable(value: Number | str) -> str:
    """A value for people: ten digits are more than any sensor has, and hide what binary fractions add to it."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def write_out(lines: Iterator[str], what: str, report: Callable[[], None], batch: int = BATCH_LINES) -> None:
    """Write and flush ``batch`` lines at a time to standard output, and then ``report``, also after Ctrl-C.

    Who reads the output may stop (``| head``): that ends it without a word. Raises ``Unavailable`` when it can't be
    written.
    """
    try:
        while text := "".join(islice(lines, batch)):
            sys.stdout.write(text)
            sys.stdout.flush()
    except OSError as error:
        # Python flushes once more at its end: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        raise Unavailable(f"write {what}", error.strerror or str(error), "check where they go") from error
    except KeyboardInterrupt:
        report()
        raise
    report()


def flush_output() -> None:
    """Write what waits to be written. Raises ``OSError``."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def unwritten() -> OSError | None:
    """Why standard output or standard error can't be written, if one can't; from then on it goes nowhere."""
    found = None
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
                _look_for_reader(stream)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            found = error
    return found


def _look_for_reader(stream: TextIO) -> None:
    """Raise ``BrokenPipeError`` for a pipe that nobody reads: what is not buffered leaves nothing to be flushed."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except io.UnsupportedOperation:  # no file: a test's
        return
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


# -- for people: colours, tables and bars where somebody looks on, plain lines everywhere else


def is_live(stream: TextIO) -> bool:
    """Whether somebody sees this at a terminal that can move its cursor; tables, colours and bars are for them only."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def print_findings(findings: Iterable[tuple[str, str, str]]) -> None:
    """Print (severity, what, what to do) of each: a line ``severity: what; what to do``, or in colours."""
    if not is_live(sys.stdout):
        for severity, text, hint in findings:
            print(f"{severity}: {text}" + (f"; {hint}" if hint else ""))
        return
    from rich.text import Text  # noqa: PLC0415 - half a megabyte that a pipe and the gateway do without

    screen = _screen(sys.stdout)
    for severity, text, hint in findings:
        style = _STYLES.get(severity, "")
        line = Text.assemble((f"{severity:<8}", f"bold {style}"), shown(text))
        if hint:
            line.append(f"\n{'':8}{shown(hint)}", "italic")
        screen.print(line, soft_wrap=True)


def print_verdict(text: str, *, good: bool) -> None:
    """One line that says how it went: on a terminal green or red."""
    if not is_live(sys.stdout):
        print(text)
        return
    from rich.text import Text  # noqa: PLC0415 - as above

    _screen(sys.stdout).print(Text(shown(text), f"bold {'green' if good else 'red'}"), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO | None = None) -> None:
    """A table on a terminal (``is_live``); a word of ``STYLES`` alone in its cell has its colour."""
    from rich import box  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell), style=_STYLES.get(cell, "")) for cell in row))
    _screen(stream or sys.stdout).print(table)


def shown(text: str) -> str:
    """A text that comes from elsewhere, without what would command the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class Progress:
    """How far long work is, on standard error: bars on a terminal, elsewhere a line for each thing that is done.

    ``quiet``: no such lines. ``unit``: what is counted, ``bytes``, a word for people, or nothing. With ``alone`` there
    are no bars where standard output is a terminal too, for the results stand there.
    """

    def __init__(self, unit: str = "bytes", *, quiet: bool = False, alone: bool = False) -> None:
        self._unit = unit
        self._quiet = quiet
        self.live = is_live(sys.stderr) and not (alone and sys.stdout.isatty())  #: whether there are bars
        self._bars = _bars(unit) if self.live else None
        self._what = ""
        self._size = 0
        self._task: TaskID | None = None

    def tell(self, what: str, done: int, size: int | None) -> None:
        """So much of so much is done of that; ``size`` None: nobody knows how much there is."""
        if what != self._what:
            self._end()
            self._what = what
            self._task = None if self._bars is None else self._bars.add_task(what, total=size)
        self._size = done if size is None else size
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=size)

    def _end(self) -> None:
        if self._what and self._bars is None and not self._quiet:
            size = mib(self._size) if self._unit == "bytes" else f"{self._size} {self._unit}"
            print(f"{self._what}: {size}", file=sys.stderr, flush=True)
        self._what = ""

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing more is done: what is printed from now on stands behind the bars."""
        self._end()
        if self._bars is not None:
            self._bars.stop()


def watched_log(path: Path, progress: Progress) -> "Iterator[LogFrame | BadFrame]":
    """All frames of a CAN log, as ``read_log`` gives them and with its errors; ``progress`` tells how far it is."""
    from drivers.can.logs import read_log, read_log_stream  # noqa: PLC0415 - see the package's docstring

    if not progress.live:
        yield from read_log(path)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"read {path}", reason, "check the path and its permissions") from error
    with file:
        yield from read_log_stream(_Watched(file, path, progress), str(path), path)


class _Watched:
    """A file that tells how far it was read. Of one of which others read the most by its name, nobody knows."""

    def __init__(self, file: BufferedReader, path: Path, progress: Progress) -> None:
        self._file = file
        self._name = path.name
        self._size = os.fstat(file.fileno()).st_size
        self._progress = progress
        self._reads = 0

    def read1(self, size: int = -1, /) -> bytes:
        """What there is now, up to ``size`` bytes; empty at the end."""
        data = self._file.read1(size)
        self._reads += 1
        self._progress.tell(self._name, self._file.tell(), self._size if self._reads > 1 else None)
        return data


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**20:,.1f} MiB"


#: Of severities, roles and the like: what is said in one word.
_STYLES = {
    "error": "red",
    "critical": "red",
    "warning": "yellow",
    "info": "cyan",
    "admin": "magenta",
    "done": "green",
    "refused": "red",
}
#: C0 and C1 without tabulator and line feed.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _screen(stream: TextIO) -> "Console":
    """NO_COLOR is heard here."""
    from rich.console import Console  # noqa: PLC0415 - as above

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def _bars(unit: str) -> "rich_progress.Progress":
    from rich import progress  # noqa: PLC0415 - as above

    counted = progress.DownloadColumn(binary_units=True) if unit == "bytes" else progress.MofNCompleteColumn()
    return progress.Progress(
        progress.TextColumn("{task.description:<12}", markup=False),
        progress.BarColumn(30),
        progress.TaskProgressColumn(),
        *([counted] if unit else []),
        progress.TimeRemainingColumn(),
        console=_screen(sys.stderr),
        # What is printed meanwhile on standard output is the result: it must not come out beside the bar.
        redirect_stdout=False,
    )
