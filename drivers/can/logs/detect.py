"""Which format a log has, and the reading of it from the first line to the last."""

import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Protocol

from agent.core.errors import Unavailable, Unsupported
from agent.core.model import BadFrame
from drivers.can.logs import lines
from drivers.can.logs.asc import AscLines
from drivers.can.logs.frame import LogFrame, MakeReader
from drivers.can.logs.table import TableLines
from drivers.can.logs.trc import TrcLines

#: What an error message says when a file is none of them.
KNOWN_FORMATS = (
    "candump (-l or display), Battery-Emulator, SavvyCAN and other tables with a header line, Vector ASC and BLF, "
    "PEAK TRC, BUSMASTER, CRTD, MF4, python-can's CSV, SQLite and print-out; each also compressed with gzip"
)

#: In the order in which they are preferred when they read the same lines equally well.
_TEXT_READERS: tuple[MakeReader, ...] = (
    lines.candump,
    lines.display,
    AscLines,
    TrcLines,
    TableLines,
    partial(TableLines, 10, 16),
    partial(TableLines, 16, 10),
    partial(TableLines, 10, 10),
    lines.busmaster,
    lines.crtd,
    lines.text_export,
    lines.printed,
)

_GZIP = b"\x1f\x8b"
_BLF = b"LOGG"
_SQLITE = b"SQLite format 3\x00"
_MF4 = (b"MDF     ", b"UnFinMF ")
_MAGIC_BYTES = 16
_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_BUFFER_BYTES = 1 << 16
#: No line of a log is longer; a longer one is read in pieces, so that memory stays bounded.
_MAX_LINE = 1 << 13
#: Enough lines to tell the formats apart. Somebody waits for the first frame of a pipe, so fewer must do there.
_FEW_LINES = 256
_FEW_LIVE_LINES = 16
#: If no format fits them (a long preamble), more lines are looked at, up to this many.
_MANY_LINES = 4096


class Stream(Protocol):
    """What is needed of a binary stream: files, pipes, ``gzip.GzipFile`` and ``io.BytesIO`` have it."""

    def read1(self, size: int, /) -> bytes:
        """What there is now, up to ``size`` bytes; empty at the end."""


def read_log(path: Path) -> Iterator[LogFrame | BadFrame]:
    """All frames of a log file in file order, whatever tool wrote it; a ``BadFrame`` for what cannot be read.

    The file is opened at the first ``next``, which then raises ``Unavailable`` (no such file, not readable),
    ``Unsupported`` (no CAN frames in it, or a library that reads them is missing) or ``BadData`` (an MF4 file that
    cannot be opened at all). Damage behind the first frame never raises: it gives a ``BadFrame``.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"read {path}", reason, "check the path and its permissions") from error
    with file:
        yield from read_log_stream(file, str(path), path)


def read_log_stream(stream: Stream, name: str, path: Path | None = None) -> Iterator[LogFrame | BadFrame]:
    """As ``read_log``, from an open binary stream (a pipe, too). ``name`` is for messages; the caller closes.

    ``path`` is the file behind the stream, if there is one: without it, formats that need a file are copied to a
    temporary one.
    """
    source = _Source(stream)
    buffered = io.BufferedReader(source, _BUFFER_BYTES)
    packed = buffered.peek(_MAGIC_BYTES).startswith(_GZIP)
    if packed:
        source = _Source(gzip.GzipFile(fileobj=buffered))
        buffered = io.BufferedReader(source, _BUFFER_BYTES)
    head = buffered.peek(_MAGIC_BYTES)
    if head.startswith((_BLF, _SQLITE, *_MF4)):
        yield from _from_binary(buffered, head, None if packed else path)
    else:
        encoding = next((encoding for bom, encoding in _BOMS if head.startswith(bom)), "utf-8")
        yield from _from_text(buffered, encoding, name, _FEW_LINES if path else _FEW_LIVE_LINES)
    if source.broken:
        yield BadFrame("truncated_file")


class _Source(io.RawIOBase):
    """A stream that ends where it cannot be read any further.

    A disk that fails or a gzip file that was cut is the end of the log, not of the program: ``broken`` tells of it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.broken = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # the C code passes a memoryview
        """Fill what can be filled now; 0 is the end."""
        try:
            data = self._stream.read1(len(buffer))
        except (OSError, EOFError, zlib.error):
            self.broken = True
            return 0
        buffer[: len(data)] = data
        return len(data)


def _from_binary(buffered: IO[bytes], head: bytes, path: Path | None) -> Iterator[LogFrame | BadFrame]:
    from drivers.can.logs import binary  # noqa: PLC0415 - python-can takes half a second to import

    if head.startswith(_BLF):
        yield from binary.read_blf(buffered)
        return
    read = binary.read_sqlite if head.startswith(_SQLITE) else binary.read_mf4
    if path is not None:
        yield from read(path)
        return
    with tempfile.TemporaryDirectory(prefix="enlace-") as folder:
        copy = Path(folder) / "log"
        with copy.open("wb") as file:
            shutil.copyfileobj(buffered, file)
        yield from read(copy)


def _from_text(buffered: IO[bytes], encoding: str, name: str, few: int) -> Iterator[LogFrame | BadFrame]:
    text = io.TextIOWrapper(buffered, encoding=encoding, errors="replace", newline=None)
    try:
        every = iter(lambda: text.readline(_MAX_LINE), "")
        sample = list(islice(every, few))
        make = _fitting(sample)
        while make is None and len(sample) < _MANY_LINES and (more := list(islice(every, len(sample)))):
            sample += more
            make = _fitting(sample)
        if make is None:
            raise Unsupported(f"read {name}", "no CAN frames found", f"known formats: {KNOWN_FORMATS}")
        read = make().read
        for line in chain(sample, every):
            frame = read(line)
            if frame is not None:
                yield frame
    finally:
        text.detach()


def _fitting(sample: list[str]) -> MakeReader | None:
    """The reader that finds most frames in the first lines; else one that knows the header and finds no fault."""
    best: MakeReader | None = None
    best_score = (0, 0)
    empty: MakeReader | None = None
    for make in _TEXT_READERS:
        reader = make()
        results = [reader.read(line) for line in sample]
        bad = sum(isinstance(result, BadFrame) for result in results)
        frames = len(results) - bad - results.count(None)
        score = (frames - reader.odd, -bad)
        if frames and score > best_score:
            best, best_score = make, score
        if reader.known and not bad and empty is None:
            empty = make
    return best or empty
