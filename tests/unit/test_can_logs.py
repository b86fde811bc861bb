"""Reading of CAN logs from memory: telling formats apart, staying alive on any input, memory and pipes."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.errors import Unsupported
from agent.core.model import BadFrame
from drivers.can.logs import KNOWN_FORMATS, LogFrame, read_log_stream

#: One sound line of each line format, with the header that it needs.
SOUND = {
    "candump": ("", "(1714550400.5) can0 351#D2000A"),
    "display": ("", "  can0  351   [3]  D2 00 0A"),
    "battery emulator": ("", "(12.34) RX0 351 [3] D2 00 0A"),
    "savvycan": ("Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3\n", "1000000,00000351,false,Rx,0,3,D2,00,0A"),
    "tabs": ("Ch\tTime\tCAN ID\tLen\tData\n", "0\t100\t0x351\t3\t0xD2 00 0A"),
    "asc": ("base hex  timestamps absolute\n", "   0.200000 1  351             Rx   d 3 D2 00 0A"),
    "asc fd": ("base hex  timestamps absolute\n", "   1.000000 CANFD   1 Rx        351   0 0 3  3 D2 00 0A   0  0"),
    "trc": (";$FILEVERSION=1.1\n;$STARTTIME=45413.25\n", "     1)         3.0  Rx         0351  3  D2 00 0A "),
    "trc 2": (";$FILEVERSION=2.0\n;$COLUMNS=N,O,T,I,d,l,D\n", "      1      1000.000 DT     0351 Rx 3  D2 00 0A"),
    "busmaster": ("***HEX***\n", "08:00:01:5350 Rx 1 0x351 s 3 D2 00 0A"),
    "crtd": ("", "1714550400.250 1R11 351 d2 00 0a"),
    "text export": ("@ TEXT @ 3 @\n", "26,641405\t1\t00000004\t351\t3\tD2 00 0A   \t00000000\t        \t"),
    "printed": ("", "Timestamp: 0.250000        ID: 0351    S Rx                DL:  3    d2 00 0a"),
}


def _read(text: str | bytes) -> list[LogFrame | BadFrame]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_log_stream(io.BytesIO(data), "a log"))


def _is_the_frame(entry: LogFrame | BadFrame) -> bool:
    return isinstance(entry, LogFrame) and (entry.can_id, entry.extended, entry.data) == (0x351, False, b"\xd2\x00\x0a")


@pytest.mark.parametrize("name", SOUND)
def test_each_format_is_told_by_one_line(name: str) -> None:
    header, line = SOUND[name]
    (frame,) = _read(header + line)
    assert _is_the_frame(frame)


@pytest.mark.parametrize("name", SOUND)
def test_garbage_between_the_lines_is_counted_and_never_the_end(name: str) -> None:
    header, line = SOUND[name]
    entries = _read(header + f"{line}\n\x00\x01 what is this?\n{line}\n")
    assert [_is_the_frame(entry) for entry in entries] == [True, False, True]
    assert entries[1] == BadFrame("unreadable_line", b"\x00\x01 what is this?") or name in {"savvycan", "tabs"}


@pytest.mark.parametrize("name", SOUND)
def test_a_line_that_was_cut_is_never_a_wrong_frame(name: str) -> None:
    header, line = SOUND[name]
    line = line.rstrip()
    for length in range(1, len(line)):
        entries = _read(f"{header}{line}\n{line[:length]}\n{line}\n")
        assert _is_the_frame(entries[0])
        assert _is_the_frame(entries[-1])
        for entry in entries[1:-1]:
            # A format that says no length cannot know that bytes are missing, but it never makes up any.
            assert isinstance(entry, BadFrame) or b"\xd2\x00\x0a".startswith(entry.data) or name == "candump"


@pytest.mark.parametrize(
    "text", ["", "\n\n", "hello\n", "%PDF-1.7\n\x00\x00", "a,b,c\n1,2,3\n", "{}\n", "351 D2 00 0A\n"]
)
def test_a_file_without_frames_names_the_known_formats(text: str) -> None:
    with pytest.raises(Unsupported) as caught:
        _read(text)
    assert str(caught.value) == f"read a log: no CAN frames found (known formats: {KNOWN_FORMATS})"


@pytest.mark.parametrize(
    "header",
    ["Time Stamp,ID,Extended,Bus,LEN,D1,D2\n", "date Wed May 1 08:00:00 2024\nbase hex\n", ";$FILEVERSION=1.1\n"],
)
def test_a_log_of_a_known_format_may_be_empty(header: str) -> None:
    assert _read(header) == []


def test_a_long_preamble_is_passed_over() -> None:
    entries = _read("starting up\n" * 2000 + "(12.34) RX0 351 [3] D2 00 0A\n")
    assert len(entries) == 2001
    assert _is_the_frame(entries[-1])


def test_the_format_is_that_of_most_lines() -> None:
    entries = _read("can0  123   [1]  00\n" + "(0.5) can0 351#D2000A\n" * 3)
    assert [_is_the_frame(entry) for entry in entries] == [False, True, True, True]


def test_times_that_are_no_numbers_are_bad() -> None:
    assert [
        entry.reason
        for entry in _read("(nan) can0 123#00\n(inf) can0 123#00\n(0.5) can0 351#\n")[:2]
        if isinstance(entry, BadFrame)
    ] == ["bad_time"] * 2


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    class Endless(io.BytesIO):
        given = 0

        def read1(self, size: int | None = -1, /) -> bytes:
            self.given += size or 0
            return b"x" * (size or 0) if self.given < 800_000 else b""

    with pytest.raises(Unsupported):
        list(read_log_stream(Endless(), "an endless line"))


def test_a_live_log_is_read_as_it_comes() -> None:
    """After the lines that tell the format, a frame is given before the next one is asked for."""

    class Pipe(io.BytesIO):
        sent = 0

        def read1(self, size: int | None = -1, /) -> bytes:
            self.sent += 1
            return b"(%d.5) can0 351#D2000A\n" % self.sent if self.sent <= 1000 else b""

    pipe = Pipe()
    frames: Iterator[LogFrame | BadFrame] = read_log_stream(pipe, "a pipe")
    seen = [(next(frames), pipe.sent) for _ in range(100)]
    assert all(_is_the_frame(frame) for frame, _ in seen)
    assert seen[0][1] <= 20
    assert seen[99][1] <= 101


LINES = st.sampled_from([line for pair in SOUND.values() for line in (pair[0].strip(), pair[1])])


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """A sound line with something cut out, doubled or put in."""
    line = draw(LINES)
    start, end = sorted((draw(st.integers(0, len(line))), draw(st.integers(0, len(line)))))
    middle = draw(
        st.sampled_from(["", line[start:end] * 2, "-", "9" * 30, "#", "[99]", "\t", ",", '"', "x", "é", "\x00"])
    )
    return line[:start] + middle + line[end:]


def _is_sound(entry: LogFrame | BadFrame) -> bool:
    if isinstance(entry, BadFrame):
        return bool(entry.reason) and len(entry.sample) <= 80
    finite = entry.t is None or entry.t - entry.t == 0
    return finite and 0 <= entry.can_id < 1 << (29 if entry.extended else 11) and len(entry.data) <= 64


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(LINES, _mutated(), st.text(max_size=40)), max_size=12))
def test_any_lines_give_frames_that_can_exist_or_the_documented_error(lines: list[str]) -> None:
    try:
        entries = _read("\n".join(lines))
    except Unsupported:
        return
    assert all(map(_is_sound, entries))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_text_bytes_give_frames_that_can_exist_or_the_documented_error(data: bytes) -> None:
    try:
        # A magic number would lead to the binary readers, which tests/cases/can_logs holds.
        entries = _read(b"~" + data)
    except Unsupported:
        return
    assert all(map(_is_sound, entries))
