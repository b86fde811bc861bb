"""The pages that people read say what the program does."""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from agent.config import Config, read_config
from agent.modbus_profiles import ModbusProfileFile
from agent.yamlfile import Section, validate
from docs import chargers, profiles
from docs.reference import PAGE, render, table

ROOT = Path(__file__).resolve().parents[2]


def test_the_configuration_page_is_what_the_models_say() -> None:
    assert PAGE.read_text() == render(), "docs/configuration.md is out of date: run `make docs`"


class _Keys(Section):
    """Keys of each kind."""

    word: Literal["auto", "off"] = Field("auto", description="w")
    one: Literal["can"] = Field(description="o")
    often: Annotated[float, Field(gt=0, le=86_400)] | None = Field(None, description="t")
    share: Annotated[int, Field(ge=0, le=3)] = Field(1, description="s")
    many: tuple[Annotated[float, Field(ge=0)], ...] = Field((), description="m")
    pair: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = Field(None, description="p")
    free: str = Field("", description="f")


def test_the_reference_says_what_each_key_takes() -> None:
    rows = [row.split(" | ") for row in table("Keys", "", _Keys).splitlines()[4:]]
    assert {row[0].strip("| `"): row[2].strip() for row in rows} == {
        "word": "`auto`, `off`",
        "one": "",
        "often": "above 0, at most 86400",
        "share": "0 to 3",
        "many": "at least 0",
        "pair": "",
        "free": "",
    }


def test_the_page_of_device_models_is_what_the_profiles_say() -> None:
    assert profiles.PAGE.read_text() == profiles.render(), "docs/profiles.md is out of date: run `make docs`"


def test_the_page_of_chargers_is_what_the_code_says() -> None:
    assert chargers.PAGE.read_text() == chargers.render(), "docs/ocpp.md is out of date: run `make docs`"


def test_the_sample_of_a_device_model_is_one() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", profiles.PAGE.read_text(), re.DOTALL)
    _, problems = validate(block, "sample", ModbusProfileFile)
    assert not problems


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_the_configuration_samples_are_read_by_the_real_models(path: Path) -> None:
    reading = read_config(path, {})
    assert not reading.problems
    assert isinstance(reading.config, Config)


def test_every_yaml_block_of_the_readme_is_a_configuration(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        reading = read_config(path, {})
        assert reading.config is not None, [str(problem) for problem in reading.problems]


def test_every_module_beside_the_rooms_has_a_row_in_the_readme() -> None:
    rows = [
        line.split("|")[1] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `agent/")
    ]
    named = [name.removeprefix("agent/") for row in rows for name in re.findall(r"`([^`]+\.py)`", row)]
    modules = {path.name for path in (ROOT / "agent").glob("*.py") if not path.name.startswith("__")}
    assert modules == {module for module in modules for name in named if fnmatch(module, name)}
    assert all(any(fnmatch(module, name) for module in modules) for name in named)


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "docs/configuration.md", "docs/ocpp.md"):
        named = set(re.findall(r"`make ([a-z]+)", (ROOT / page).read_text()))
        assert named <= targets, page
