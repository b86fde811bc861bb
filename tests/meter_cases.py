"""Cases of the text codecs: ``line.txt`` holds the bytes of a line, ``expected.json`` what they say."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.core.model import BadFrame
from drivers.codec.telegram import Codec, Reading, Telegram

CASES = Path(__file__).resolve().parent / "cases"


def every_case(kind: str) -> pytest.MarkDecorator:
    """Parametrise ``case`` over the folders of a kind; there must be some."""
    folders = sorted(path.parent for path in (CASES / kind).glob("*/line.txt"))
    assert folders, f"no cases in {CASES / kind}"
    return pytest.mark.parametrize("case", folders, ids=lambda path: path.name)


def expected(case: Path) -> list[Telegram | str]:
    """The telegrams of a case in order; the reason where one is bad."""
    result: list[Telegram | str] = []
    for one in json.loads((case / "expected.json").read_text()):
        if "bad" in one:
            result.append(one["bad"])
        else:
            readings = tuple(Reading(*fields) for fields in one["readings"])
            result.append(Telegram(one["meter"], readings, tuple((key, value) for key, value in one["identity"])))
    return result


def said(results: Sequence[Telegram | BadFrame]) -> list[Telegram | str]:
    """Results in the form of ``expected``."""
    return [result.reason if isinstance(result, BadFrame) else result for result in results]


def telegrams(codec: Codec, data: bytes) -> list[Telegram]:
    """The good telegrams of these bytes."""
    return [result for result in codec.feed(data) if isinstance(result, Telegram)]


def reasons(codec: Codec, data: bytes) -> list[str]:
    """Why telegrams of these bytes were bad."""
    return [result.reason for result in codec.feed(data) if isinstance(result, BadFrame)]


def same_types(got: Sequence[Reading], wanted: Sequence[Reading]) -> bool:
    """Whether numbers are numbers and texts are texts: 1 == 1.0 holds, but a whole number is exact."""
    return [type(reading.value) for reading in got] == [type(reading.value) for reading in wanted]
