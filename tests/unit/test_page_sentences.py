"""The page's Spanish sentences: one for each that the code can say, with the same fields, and none besides."""

import ast
import re

import pytest

from agent.web import said


@pytest.fixture(scope="module")
def templates() -> dict[str, str]:
    return said.templates()


def test_each_sentence_of_the_code_has_a_spanish_one(templates: dict[str, str]) -> None:
    spanish = said.spanish()
    lacking = {text: place for text, place in templates.items() if text not in spanish}
    assert not lacking, "python -m agent.web.said prints them; fill them into agent/web/src/said/es.json"


def test_no_spanish_sentence_is_of_one_that_is_gone(templates: dict[str, str]) -> None:
    assert not said.spanish().keys() - templates.keys()


def test_fields_are_the_same_in_both_languages() -> None:
    different = [english for english, spanish in said.spanish().items() if said.fields(english) != said.fields(spanish)]
    assert not different


def test_what_looks_alike_is_said_alike() -> None:
    """Templates that differ in the names of their fields only: the page can't tell them apart."""
    shapes: dict[str, str] = {}
    for english, spanish in said.spanish().items():
        shape = _numbered(english, english)
        assert shapes.setdefault(shape, _numbered(english, spanish)) == _numbered(english, spanish), english


def _numbered(english: str, text: str) -> str:
    names = re.findall(r"\{(\w+)(?::n)?\}", english)
    return re.sub(r"\{(\w+)(:n)?\}", lambda found: "{" + str(names.index(found[1])) + (found[2] or "") + "}", text)


def test_backquoted_words_of_the_configuration_stay() -> None:
    """What is written into a file is no word of a language."""
    for english, spanish in said.spanish().items():
        keys = [one for one in re.findall(r"`(\w+:[^`]*)`", english) if "{" not in one and "value" not in one]
        assert all(f"`{key}`" in spanish for key in keys), english


def test_modules_that_are_left_out_exist() -> None:
    names = [path.relative_to(said.ROOT).as_posix() for room in said.ROOMS for path in (said.ROOT / room).rglob("*.py")]
    assert [prefix for prefix in said.UNSEEN if not any(name.startswith(prefix) for name in names)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 'it is closed'", ["it is closed"]),
        ("x = f'it is {self._a.b} now'", ["it is {b} now"]),
        ("x = f'it draws {one.draw_w:.0f} W, {two:%Y} {n:02x}'", ["it draws {draw_w:n} W, {two} {n}"]),
        ("x = f'so {a} and {a} and {len(a)}'", ["so {a} and {a2} and {a3}"]),
        ("x = f'{n} station' + ('s' if n > 1 else '') + ' left'", ["{n} stations left", "{n} station left"]),
        ('x = f\'{n} {"more of" if n else "none of"} them\'', ["{n} more of them", "{n} none of them"]),
        ("x = f'it is {why(\"the disk is full\")} now'", ["it is {why} now", "the disk is full"]),
        ("x = 'first line\\nsecond line'", ["first line", "second line"]),
        ("def f():\n    'A docstring of words.'\n    logger.warning('a line of log')", []),
        ("x = Field(description='what it is for')", []),
        ("x = 'SELECT this FROM that'", []),
        ("x = 'word'", []),
    ],
)
def test_templates_are_read_from_the_code(source: str, found: list[str]) -> None:
    assert [line for _, line in said.sentences(ast.parse(source))] == found
