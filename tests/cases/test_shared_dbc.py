"""DBC files of real devices and tool suites, where the shared test data is at hand: cantools is the oracle.

``<file>.dbc.expected.json`` holds what cantools makes of the file: its messages, and payloads with their values or with
the error that it raises. Where signals overlap or reach outside of their message cantools can decode no frame; we do,
and say so in a finding.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import TypedDict

import pytest

from agent.core.model import BadFrame
from drivers.codec.can_frame import FrameDecoder, MessageCodec
from drivers.codec.dbc import Dbc, MessageDef, load_dbc

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "can"
FILES = sorted(path for path in DATA.rglob("*") if path.suffix.lower() == ".dbc")


class Vector(TypedDict, total=False):
    id: int
    name: str
    data: str
    scaled: dict[str, int | float | str]
    choices: dict[str, str]
    error: str


class Expected(TypedDict, total=False):
    loads: bool
    loads_strict: bool
    n_messages: int
    n_signals: int
    messages: list[tuple[int, str, int, int, int, int, int]]
    vectors: list[Vector]


@cache
def load(path: Path) -> Dbc:
    return load_dbc(path.read_bytes(), path.name)


def expected(path: Path) -> Expected:
    answer: Expected = json.loads(path.with_name(path.name + ".expected.json").read_text())
    return answer


def one(path: Path | None) -> Path:
    if path is None:
        pytest.skip("the shared CAN data is not here")
    return path


every_file = pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.name if path else "absent")


def test_the_shared_folder_is_walked() -> None:
    if not DATA.exists():
        pytest.skip("the shared CAN data is not here")
    assert len(FILES) > 50


@every_file
def test_messages_are_those_of_cantools(path: Path | None) -> None:
    path = one(path)
    answer = expected(path)
    dbc = load(path)
    if not answer["loads"]:
        assert dbc.findings
        return
    ours = [
        (m.frame_id, m.name, m.length, int(m.extended), int(m.fd), int(m.multiplexed), len(m.signals))
        for m in dbc.messages
    ]
    assert ours == [tuple(row) for row in answer["messages"]]
    assert answer["n_signals"] == sum(len(message.signals) for message in dbc.messages)
    if answer["loads_strict"]:
        assert dbc.findings == ()
    else:
        assert any("overlap" in finding.text or "needs" in finding.text for finding in dbc.findings)


@every_file
def test_every_payload_gives_the_values_of_cantools(path: Path | None) -> None:
    path = one(path)
    dbc = load(path)
    codecs = {(m.frame_id, m.name): MessageCodec(m) for m in dbc.messages}
    misplaced = {
        name for finding in dbc.findings for name in re.findall(r"message (\S+) overlap|signal (\S+?)\.", finding.text)
    }
    doubtful = {name for pair in misplaced for name in pair if name}
    for vector in expected(path).get("vectors", []):
        codec = codecs[vector["id"], vector["name"]]
        values = codec.decode(bytes.fromhex(vector["data"]))
        if "error" in vector:
            assert isinstance(values, BadFrame) or vector["name"] in doubtful, vector
            continue
        assert isinstance(values, dict), vector
        assert {name: spelled(value) for name, value in values.items()} == {
            name: spelled(value) for name, value in vector["scaled"].items()
        }, vector
        check_labels(codec, vector)


def spelled(value: float | str) -> str:
    """Number and type as text; the files write NaN and infinities as strings."""
    return value if isinstance(value, str) else repr(value)


def check_labels(codec: MessageCodec, vector: Vector) -> None:
    for name, label in vector.get("choices", {}).items():
        assert label in codec.labels(name).values(), (vector, name)


@every_file
def test_as_many_messages_load_as_the_file_has(path: Path | None) -> None:
    """Counted without any parser: lines that begin a message, less the pseudo-message and those with an error."""
    path = one(path)
    text = path.read_text(encoding="cp1252", errors="replace")
    heads = [line for line in re.findall(r"^\s*BO_ .*", text, re.MULTILINE) if "VECTOR__INDEPENDENT" not in line]
    signals = re.findall(r"^\s*SG_ .*", text, re.MULTILINE)
    dbc = load(path)
    errors = [finding for finding in dbc.findings if finding.severity == "error"]
    assert len(heads) - len(errors) <= len(dbc.messages) <= len(heads)
    loaded = sum(len(message.signals) for message in dbc.messages)
    if not errors and "VECTOR__INDEPENDENT_SIG_MSG:" not in text:
        assert loaded == len(signals)
    assert loaded <= len(signals)
    assert all(finding.hint and 0 <= finding.line <= text.count("\n") + 1 for finding in dbc.findings)


@every_file
def test_every_message_is_found_by_its_identifier(path: Path | None) -> None:
    dbc = load(one(path))
    decoder = FrameDecoder(dbc.messages)
    for message in dbc.messages:
        codec = decoder.find(message.frame_id, message.extended)
        assert codec is not None
        assert codec.message is message
        assert isinstance(message, MessageDef)
