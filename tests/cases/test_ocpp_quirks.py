"""What chargers do that the standard does not say: one scripted conversation for each."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.yamlfile import parse
from tests.ocpp_script import Scripted

FOLDER = Path(__file__).parent / "ocpp_quirks"
CASES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_charger_is_served(path: Path) -> None:
    document, problems = parse(path.read_text(), path.name)
    assert not problems, problems
    assert document is not None
    case: Any = document.data
    asyncio.run(asyncio.wait_for(Scripted(case).run(), 30))


def test_all_31_are_there() -> None:
    assert {int(path.stem[:2]) for path in CASES} == set(range(1, 32))
