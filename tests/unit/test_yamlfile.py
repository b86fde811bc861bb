"""Every kind of mistake in a YAML file gives a finding with its place, what is wrong and what to write."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr, field_validator

from agent.core.errors import ConfigError
from agent.share import share_path
from agent.yamlfile import MAX_BYTES, Problem, Section, complaint, load_yaml, parse, validate


class CanDevice(Section):
    driver: Literal["can"]
    channel: str = Field(description="name of the interface", examples=["can0"])
    bitrate: int = Field(default=500_000, ge=10_000)


class ModbusDevice(Section):
    driver: Literal["modbus"]
    url: str


Device = Annotated[CanDevice | ModbusDevice, Field(discriminator="driver")]


class Limits(Section):
    rows: int = Field(default=10, le=100)
    ratio: float = Field(default=0.5, allow_inf_nan=False)


class Site(Section):
    name: str = "depot"
    enabled: bool = True
    shift: Literal["night", "day"] = "day"
    path: Path = Path()
    limits: Limits = Limits()
    numbers: dict[int, float] = Field(default_factory=dict)
    either: int | list[int] = 1
    secret: SecretStr | None = None
    devices: tuple[Device, ...] = ()

    @field_validator("name")
    @classmethod
    def _no_spaces(cls, value: str) -> str:
        if " " in value:
            raise complaint("has a space", "write `-` instead")
        return value


def findings(text: str) -> list[str]:
    result, problems = validate(text, "s.yaml", Site)
    assert (result is None) == bool(problems)
    return [str(problem) for problem in problems]


def test_a_good_file_becomes_the_model() -> None:
    text = """
name: "7"            # quoted: text
enabled: false
shift: night
path: /var/lib
limits: {rows: 0x10, ratio: 1}
numbers: {1: 2, 0x351: .5}
devices:
  - {driver: can, channel: can0}
  - driver: modbus
    url: tcp://x:502
"""
    site, problems = validate(text, "s.yaml", Site)
    assert problems == []
    assert site == Site(
        name="7",
        enabled=False,
        shift="night",
        path=Path("/var/lib"),
        limits=Limits(rows=16, ratio=1.0),
        numbers={1: 2.0, 0x351: 0.5},
        devices=(CanDevice(driver="can", channel="can0"), ModbusDevice(driver="modbus", url="tcp://x:502")),
    )


def test_yaml_1_2_words_that_look_like_booleans_or_times_are_text() -> None:
    document, problems = parse("a: [on, off, no, yes, 22:00, 2020-01-01, '5', true, ~, 1_000, 1e3, 010]", "s.yaml")
    assert problems == []
    assert document is not None
    expected = ["on", "off", "no", "yes", "22:00", "2020-01-01", "5", True, None, 1000, 1000.0, 10]
    assert document.data == {"a": expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nam: x\n", "s.yaml:1:1: unknown key `nam`; did you mean `name`?"),
        ("limits:\n  row: 3\n", "s.yaml:2:3: unknown key `row`; did you mean `rows`?"),
        ("limits: {zzzz: 3}\n", "s.yaml:1:10: unknown key `zzzz`; known here: ratio, rows"),
        ("name: 3\n", "s.yaml:1:7: `name` must be text, not 3; put it into quotes"),
        ("name: a b\n", "s.yaml:1:7: `name`: has a space; write `-` instead"),
        ("enabled: on\n", "s.yaml:1:10: `enabled` must be true or false, not the text 'on'; write `true`"),
        ("enabled: No\n", "s.yaml:1:10: `enabled` must be true or false, not the text 'No'; write `false`"),
        ("enabled: 1\n", "s.yaml:1:10: `enabled` must be true or false, not 1; write `true` or `false`"),
        (
            "shift: nigth\n",
            "s.yaml:1:8: `shift` must be one of night, day, not the text 'nigth'; did you mean `night`?",
        ),
        ("shift: x\n", "s.yaml:1:8: `shift` must be one of night, day, not the text 'x'"),
        ("limits: 3\n", "s.yaml:1:9: `limits` must be a mapping, not 3; write `key: value` lines under it"),
        ("limits:\n", "s.yaml:1:1: `limits` must be a mapping, not nothing; write `key: value` lines under it"),
        (
            'limits: {rows: "16"}\n',
            "s.yaml:1:16: `rows` must be a whole number, not the text '16'; write it without quotes",
        ),
        ("limits: {rows: 1.5}\n", "s.yaml:1:16: `rows` must be a whole number, not 1.5"),
        ("limits: {rows: true}\n", "s.yaml:1:16: `rows` must be a whole number, not true"),
        ("limits: {rows: 101}\n", "s.yaml:1:16: `rows` must be at most 100, not 101"),
        ("limits: {ratio: .nan}\n", "s.yaml:1:17: `ratio` must be a finite number, not nan"),
        ("limits: {ratio: x}\n", "s.yaml:1:17: `ratio` must be a number, not the text 'x'"),
        ("numbers: {x: 1}\n", "s.yaml:1:11: `x` must be a whole number, not the text 'x'"),
        ("numbers: [1]\n", "s.yaml:1:10: `numbers` must be a mapping, not a list; write `key: value` lines under it"),
        (
            "devices: {a: 1}\n",
            "s.yaml:1:10: `devices` must be a list, not a mapping; write `[a, b]`, or a line `- a` for each",
        ),
        (
            "devices:\n  - {driver: can}\n",
            "s.yaml:2:5: `channel` is missing here; add for example `channel: can0`",
        ),
        (
            "devices:\n  - driver: cam\n",
            "s.yaml:2:13: `driver` must be one of can, modbus, not the text 'cam'; did you mean `can`?",
        ),
        ("devices:\n  - url: x\n", "s.yaml:2:5: `driver` is missing here; add `driver: ...`, one of can, modbus"),
        (
            "devices:\n  - {driver: can, channel: c, bitrate: 5}\n",
            "s.yaml:2:40: `bitrate` must be at least 10000, not 5",
        ),
        (
            "devices: [{driver: can, channel: c, bitrat: 50000}]\n",
            "s.yaml:1:37: unknown key `bitrat`; did you mean `bitrate`?",
        ),
        ("secret: 12345\n", "s.yaml:1:9: `secret` must be text, not what stands here; put it into quotes"),
        ("", "s.yaml:1:1: the file is empty; write at least one `key: value` line"),
        ("# only this\n", "s.yaml:1:1: the file is empty; write at least one `key: value` line"),
        ("- a\n", "s.yaml:1:1: the file must be a mapping; write `key: value` lines"),
        ("name\n", "s.yaml:1:1: the file must be a mapping; write `key: value` lines"),
        ("name: x\nname: y\n", "s.yaml:2:1: `name` stands here again, first in line 1; keep one of the two"),
        ("a: [1\nb: 2\n", "s.yaml:2:2: a bracket is opened and not closed; close it, or put a comma between the items"),
        ("a: b: c\n", "s.yaml:1:5: a second `: ` stands in this line; put a value that holds `: ` into quotes"),
        ("a: 1\nb\nc: 2\n", "s.yaml:3:1: the line above has no `: ` between key and value; write `key: value`"),
        (
            "a:\n  b: 1\n c: 2\n",
            "s.yaml:3:2: this line is not indented like its neighbours; give keys of one mapping the same indentation",
        ),
        ("a: 'x\n", "s.yaml:2:1: a quote is opened and never closed; close it"),
        ("a: @x\n", "s.yaml:1:4: a value may not begin with this character; put the value into quotes"),
        ("a: 1\n- b\n", "s.yaml:2:1: this line is not indented like its neighbours; give keys of one mapping the same"),
        ("  a: 1\nb: 2\n", "s.yaml:2:1: this line does not belong to what stands above it; check its indentation"),
        ("a: - b\n", "s.yaml:1:4: a list item (`- `) may not stand here; put it under its key, indented"),
        ("a: [}]\n", "s.yaml:1:5: a value is missing here; write one, or delete the key or bracket before it"),
        ("a: &\n", "s.yaml:1:5: `&` and `*` begin an anchor or alias; put a value that begins so into quotes"),
        ("a: >x\n", "s.yaml:1:5: `|` and `>` begin a block of text; put a value that begins so into quotes"),
        ("a: *y\n", "s.yaml:1:4: this alias has no anchor above it; put a value that begins with `*` into quotes"),
        ("a: &x [*x]\n", "s.yaml:1:4: an alias stands inside its own anchor; write the part out"),
        ("a: \x01\n", "s.yaml:1:4: a control character (0x01) stands here; delete it"),
        ("? [a]\n: 1\n", "s.yaml:1:3: a key must be a word, not a list or mapping; write `key: value`"),
        (": 1\n", "s.yaml:1:1: a key is empty; write `key: value`"),
        ("a: !x 3\n", "s.yaml:1:4: the tag `!x` is not supported; write the value without a tag"),
        ("a: !x {b: 3}\n", "s.yaml:1:4: the tag `!x` is not supported; write the value without a tag"),
        ("a: +_\n", "s.yaml:1:4: `+_` is no number that can be read; write it in plain decimal digits"),
        ("<<: {name: x}\n", "s.yaml:1:1: merge keys (`<<`) are not supported; write the merged keys out"),
        (
            'name: "\\ud800"\n',
            "s.yaml:1:7: half of a character stands here (\\uD800 to \\uDFFF); write the character itself",
        ),
        ("a: 1\n---\nb: 2\n", "s.yaml:2:1: a second document begins here (`---`); keep one document in a file"),
        ("a: 1\n" + "[" * 5000, "s.yaml:2:501: the file is nested too deeply here; close brackets, and indent less"),
        (
            "a: " + "[" * 60 + "]" * 60,
            "s.yaml:1:54: the file is nested too deeply here; close brackets, and indent less",
        ),
        ("- " * 2000 + "x", "s.yaml:1:1: the file is nested too deeply here; close brackets, and indent less"),
    ],
)
def test_a_mistake_is_located_and_explained(text: str, expected: str) -> None:
    assert any(finding.startswith(expected) for finding in findings(text)), findings(text)


def test_a_tab_is_named_in_every_line_that_has_one() -> None:
    assert findings("limits:\n\trows: 1\n\tratio: 1\n") == [
        "s.yaml:2:1: a tab indents this line; indent with spaces",
        "s.yaml:3:1: a tab indents this line; indent with spaces",
    ]


def test_all_findings_come_in_the_order_of_the_file() -> None:
    text = "nam: x\nlimits:\n  rows: a\n  rows: b\ndevices:\n  - {driver: can, chanel: can0}\nenabled: on\n"
    lines = [line.split(": ", maxsplit=1)[0] for line in findings(text)]
    assert lines == ["s.yaml:1:1", "s.yaml:3:9", "s.yaml:4:3", "s.yaml:6:5", "s.yaml:6:19", "s.yaml:7:10"]


def test_aliases_may_repeat_parts_but_not_unfold_without_end() -> None:
    document, problems = parse("a: &x {b: 1}\nc: *x\n", "s.yaml")
    assert problems == []
    assert document is not None
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    (finding,) = [line for line in findings(bomb) if "unknown key" not in line]
    assert "the file unfolds to more than 100000 values; use fewer aliases" in finding


def test_a_secret_is_never_repeated() -> None:
    for text in ("secret: [hunter2]", "secret: {a: hunter2}", "api_key: hunter2", "password: hunter2"):
        assert "hunter2" not in "".join(findings(text))


def test_load_yaml_says_all_findings_one_per_line(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("nam: x\nenabled: on\n")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, Site)
    assert caught.value.reason.strip().splitlines() == [
        f"{path}:1:1: unknown key `nam`; did you mean `name`?",
        f"{path}:2:10: `enabled` must be true or false, not the text 'on'; write `true`",
    ]
    path.write_text("\ufeffname: x\n", encoding="utf-8")
    assert load_yaml(path, Site).name == "x"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no such file"),
        (b"name: x\n# caf\xe9\n", "s.yaml:2:6: byte 0xE9 is no UTF-8; save the file as UTF-8"),
        ("name: x\n".encode("utf-16"), "s.yaml:1:1: byte 0xFF is no UTF-8"),
        (b"#" * (MAX_BYTES + 1), "has more than 4 MiB"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "s.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, Site)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        load_yaml(tmp_path, Site)


@given(st.text(alphabet=st.sampled_from("abn:-[]{}&*!|>'\"%@`#,?~ \t\n\\\x00é5"), max_size=60))
def test_no_text_gives_anything_but_a_model_or_findings(text: str) -> None:
    result, problems = validate(text, "s.yaml", Site)
    assert (result is None) == bool(problems)
    lines = text.count("\n") + 1
    assert all(1 <= problem.line <= lines + 1 and problem.column >= 1 for problem in problems)


def test_a_problem_without_a_line_names_its_source_only() -> None:
    assert str(Problem("E_X", 0, 0, "is odd", "fix it")) == "E_X: is odd; fix it"


def test_share_finds_the_shipped_data_and_says_when_it_is_not_there() -> None:
    assert share_path("agent/share.py").is_file()
    with pytest.raises(ConfigError, match="install enlace again"):
        share_path("no_such_folder")


def test_share_finds_the_data_of_an_installed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "site-packages" / "agent" / "_share" / "dbc"
    packed.mkdir(parents=True)
    monkeypatch.setattr("agent.share._HERE", tmp_path / "site-packages" / "agent")
    assert share_path("dbc") == packed
