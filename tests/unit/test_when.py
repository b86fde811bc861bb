"""The language of conditions: what it reads, what it refuses and how, and what it writes."""

import itertools
import re
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.control.facts import Facts
from agent.control.when import Condition, explain, inputs, parse, parse_clear
from agent.control.when_compile import compile_truth
from agent.control.when_parse import MAX_DEPTH, MAX_SUBJECTS, subjects
from agent.control.when_tokens import MAX_CHARS
from agent.control.when_tree import Calc, Check, Compare, Const, Logic, Measure, Read, Text, Truth, show
from agent.core.errors import ConfigError
from agent.core.model import Batch, Number, Signal
from agent.pipeline.columns import rows_of
from tests.unit.when_random import NEARLY, truths

A, B, C = Read("a.x"), Read("b.y"), Read("c.z")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a.x < 5", Compare("<", A, Const(5))),
        ("a.x>=-5.5", Compare(">=", A, Const(-5.5))),
        ("2e3 != a.x", Compare("!=", Const(2000.0), A)),
        ("a.x", A),
        ("not a.x and b.y or c.z", Logic("or", (Logic("and", (Logic("not", (A,)), B)), C))),
        ("not (a.x and (b.y or c.z))", Logic("not", (Logic("and", (A, Logic("or", (B, C)))),))),
        ("a.x AND b.y And c.z", Logic("and", (A, B, C))),
        ("not a.x > 5", Logic("not", (Compare(">", A, Const(5)),))),
        ("a.x + b.y + c.z > 1", Compare(">", Calc("+", (A, B, C)), Const(1))),
        ("(a.x + b.y) + c.z > 1", Compare(">", Calc("+", (Calc("+", (A, B)), C)), Const(1))),
        ("a.x - b.y - c.z > 1", Compare(">", Calc("-", (Calc("-", (A, B)), C)), Const(1))),
        ("a.x + b.y * 2 > 1", Compare(">", Calc("+", (A, Calc("*", (B, Const(2))))), Const(1))),
        ("-a.x * 2 > 1", Compare(">", Calc("*", (Calc("neg", (A,)), Const(2))), Const(1))),
        ("a.x -1 > 1", Compare(">", Calc("-", (A, Const(1))), Const(1))),
        ("a.x-1 > 1", Compare(">", Read("a.x-1"), Const(1))),
        ("abs(a.x) > max(b.y, 3, c.z)", Compare(">", Calc("abs", (A,)), Calc("max", (B, Const(3), C)))),
        ("cp-1.power_w.2 > 1", Compare(">", Read("cp-1.power_w.2"), Const(1))),
        ("7.x > 1", Compare(">", Read("7.x"), Const(1))),
        ("a.Msg.Sig == 'Say \"no\"'", Compare("==", Read("a.Msg.Sig"), Text('Say "no"'))),
        ("rate(a.x, 1.5min) > 0.1", Compare(">", Measure("rate", "a.x", 90), Const(0.1))),
        ("age(a.x) > age(a)", Compare(">", Measure("age", "a.x"), Measure("age", "a"))),
        ("silent(a, 30)", Check("silent", "a", 30)),
        ("silent(7, 30)", Check("silent", "7", 30)),
        ("silent(1e5, 30s)", Check("silent", "1e5", 30)),
        ("age(007) > 7", Compare(">", Measure("age", "007"), Const(7))),
        ("silent(a.x, 500ms)", Check("silent", "a.x", 0.5)),
        ("unchanged(a.x, 2h) or known(a.x)", Logic("or", (Check("unchanged", "a.x", 7200), Check("known", "a.x")))),
        ("silent(not, 1d)", Check("silent", "not", 86_400)),
        ("min.x > 1\n  and max.x < 2", Logic("and", (parse("min.x > 1").tree, parse("max.x < 2").tree))),
    ],
)
def test_reads(text: str, tree: Truth) -> None:
    assert parse(text).tree == tree


def test_a_condition_says_what_it_reads_and_whether_time_changes_it() -> None:
    one = parse("a.x > 5 or silent(b, 5s) and known(c.z)")
    assert one.text == "a.x > 5 or silent(b, 5s) and known(c.z)"
    assert one.signals == {"a.x", "c.z"}
    assert one.devices == {"b"}
    assert one.timed
    assert hash(one) == hash(parse(one.text))
    timed = {text: parse(text).timed for text in ("a.x > 5", "known(a.x)", "age(a.x) > 5", "unchanged(a.x, 5s)")}
    assert timed == {"a.x > 5": False, "known(a.x)": False, "age(a.x) > 5": True, "unchanged(a.x, 5s)": True}
    assert parse("rate(a.x, 5s) > 5").timed


@pytest.mark.parametrize(
    ("text", "column", "reason", "hint"),
    [
        ("", 1, "missing at the end", "battery1.soc_pct < 20"),
        ("a.x >", 6, "missing at the end", ""),
        ("a.x = 5", 5, "`=` means nothing", "`==`"),
        ("a.x > 5 && b.y", 9, "`&`", "`and`"),
        ("!a.x", 1, "`!`", "`not`"),
        ("a.x ≥ 5", 5, "`≥`", "`>=`"),
        ("a.x > 50 %", 10, "`%`", "without their unit"),
        ("a.x > 50°C", 9, "`°`", "without their unit"),
        ('a.x == "Faulted', 8, '`"`', "close the quotes"),
        ("soc_pct < 20", 1, "`soc_pct` is no signal", "`soc_pct.`"),
        ("a.x > 5-3", 7, "`5-3` is no signal", "blanks around `-`"),
        ("_a.x > 5", 1, "`_a.x` is no signal", "device.point"),
        ("a.x == true", 8, "`true` is no value", "write 1 or 0"),
        ("a.x > 10s", 7, "`10s`", "silent"),
        ("a.x > 5 b.y", 9, "behind a complete condition", "`and` or `or`"),
        ("a.x > 5)", 8, "`)`", "needs its `(`"),
        ("(a.x > 5", 9, "`)` is missing at the end", "needs its `)`"),
        ("a.x and", 8, "missing at the end", ""),
        ("and a.x", 1, "missing before `and`", "both sides"),
        ("a.x > * 5", 7, "missing before `*`", "device.point"),
        ("1 < a.x < 5", 9, "two comparisons", "and"),
        ("a.x + 1", 1, "a value stands where a condition", "compare it"),
        ("b.y > 5 or 1", 12, "a value stands where a condition", "compare it"),
        ("not 5", 5, "a value stands where a condition", "compare it"),
        ("(a.x > 5) > 5", 1, "a condition stands where a value", "join"),
        ("(a.x > 5) + 5 > 5", 1, "calculated with a condition", "join"),
        ('a.x + "5" > 5', 7, "calculated with a text", "=="),
        ('a.x > "5"', 5, "does not compare texts", "=="),
        ('a.x + 1 == "5"', 12, "with a signal only", "charger_status"),
        ('"5" == "5"', 8, "with a signal only", "charger_status"),
        ("sqrt(a.x) > 2", 1, "no function `sqrt`", "abs, age, known"),
        ("a.x(5) > 2", 1, "no function `a.x`", ""),
        ("min(a.x) > 2", 1, "two values or more", "min("),
        ("abs(a.x, b.y) > 2", 1, "takes one value", "abs("),
        ("rate(a, 5s) > 2", 6, "about a signal", "rate("),
        ("rate(a.x) > 2", 9, "`,` is missing", "rate("),
        ("rate(a.x, 0s) > 2", 11, "from 1 ms to 366 days", "10s"),
        ("rate(a.x, 400d) > 2", 11, "from 1 ms to 366 days", "10s"),
        ("rate(a.x, b.y) > 2", 11, "is no duration", "10s"),
        ("rate(a.x, 5 min) > 2", 13, "`)` is missing", "rate("),
        ("rate(a.x + 1, 5s) > 2", 10, "`,` is missing", "rate("),
        ("silent(1.5, 5s)", 8, "a signal or a device", "silent("),
        ("silent(-5, 5s)", 8, "a signal or a device", "silent("),
        ("known(5)", 7, "about a signal", "known("),
        ("silent(_a, 5s)", 8, "no device", "silent("),
        ("known(a)", 7, "about a signal", "known("),
        ("known(a.x, 5s)", 10, "`)` is missing", "known("),
        ("a.x > 1e999", 7, "too large", ""),
        ("a.x > ٣", 7, "`٣`", ""),
        ("(" * (MAX_DEPTH + 1) + "a.x" + ")" * (MAX_DEPTH + 1), MAX_DEPTH + 2, "nested", ""),
        ("a.x" + " - 1" * MAX_DEPTH + " > 1", 1, "nested", ""),
        ("a.x > 1" + " " * MAX_CHARS, MAX_CHARS + 1, "longer", ""),
        (" or ".join(f"a.x{n}" for n in range(MAX_SUBJECTS + 1)), 1, "more than 64 signals", ""),
    ],
)
def test_refuses_with_the_column_and_what_to_write_instead(text: str, column: int, reason: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.op == f"condition, column {column}"
    assert reason in caught.value.reason
    assert hint in caught.value.hint


def test_limits_are_reached() -> None:
    parse("(" * MAX_DEPTH + "a.x" + ")" * MAX_DEPTH)
    parse("a.x" + " - 1" * (MAX_DEPTH - 2) + " > 1")
    parse(" + ".join(["1"] * 200) + " > 1")
    parse("a.x > 1" + " " * (MAX_CHARS - 7))
    assert len(parse(" or ".join(f"a.x{n}" for n in range(MAX_SUBJECTS))).signals) == MAX_SUBJECTS


@given(truths())
def test_a_tree_that_is_written_and_read_again_is_the_same(tree: Truth) -> None:
    text = show(tree)
    if len(text) <= MAX_CHARS:
        assert parse(text).tree == tree


def parsed(parse: Callable[[], Condition]) -> Condition | None:
    """The condition, or None where it was refused with a place and something to do."""
    refusals: list[ConfigError] = []
    try:
        return parse()
    except ConfigError as error:
        refusals.append(error)
    (refusal,) = refusals
    assert refusal.op.startswith("condition, column ")
    assert refusal.reason
    assert refusal.hint
    return None


@given(NEARLY)
@example("1-" * 499 + "1")
@example("a.b or " * 140 + "1")
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    condition = parsed(lambda: parse(text))
    if condition is not None:
        assert condition.text == text
        assert condition.signals | condition.devices == subjects(condition.tree)
        again = show(condition.tree)
        assert len(again) > MAX_CHARS or parse(again).tree == condition.tree


@given(NEARLY, truths())
def test_any_clear_is_a_condition_or_refused(text: str, when: Truth) -> None:
    condition = Condition(show(when), when, frozenset())
    for form in (text, f"< {text}", f" =={text}"):
        clear = parsed(lambda form=form: parse_clear(form, condition))  # type: ignore[misc]
        assert clear is None or len(clear.text) > MAX_CHARS or parse(clear.text) == clear


def test_clear_goes_on_from_the_left_side() -> None:
    when = parse("battery1.soc_pct - 5 < 20")
    assert parse_clear("> 25", when) == parse("battery1.soc_pct - 5 > 25")
    assert parse_clear("  >= grid.power_w / 2", when).signals == {"battery1.soc_pct", "grid.power_w"}
    assert parse_clear("known(a.x) and a.x > 5", when) == parse("known(a.x) and a.x > 5")
    assert parse_clear('== "Available"', parse('cp.status == "Faulted"')).text == 'cp.status == "Available"'


@pytest.mark.parametrize("text", ["a.x", "a.x > 5 and b.y > 5", "not a.x > 5", "silent(a, 5s)"])
def test_clear_needs_a_left_side(text: str) -> None:
    with pytest.raises(ConfigError, match="no left side"):
        parse_clear("< 45", parse(text))


@pytest.mark.parametrize(("text", "column"), [("< 45 and b.y", 6), ("<", 2), ("= 5", 1), ("! 5", 1), ("< 5 < 6", 5)])
def test_a_bad_clear_is_refused_with_its_column(text: str, column: int) -> None:
    with pytest.raises(ConfigError, match=f"column {column}:"):
        parse_clear(text, parse("a.x > 5"))


def test_the_page_shows_conditions_only() -> None:
    page = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text()
    section = page.partition("## The language of conditions")[2].partition("\n## ")[0]
    (examples,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    for line in examples.splitlines():
        assert parse(line).signals or parse(line).devices
    ((when, clear),) = re.findall(r'when: (.*)\nclear: "(.*)"', section)
    assert parse_clear(clear, parse(when)).text == "battery1.soc_pct > 25"
    functions = set(re.findall(r"^\| `(\w+)\(", section, re.MULTILINE)) | set(re.findall(r"`(\w+)\(x", section))
    with pytest.raises(ConfigError) as caught:
        parse("nothing(a.x)")
    assert functions == set(caught.value.hint.removeprefix("there are ").split(", "))
    assert f"at most {MAX_CHARS:,} characters" in section
    assert f"at most {MAX_SUBJECTS} signals" in section
    assert f"nested at most {MAX_DEPTH} deep" in section


# -- what it comes to

SIGNALS = (
    Signal("a", "temperature_degc", unit="°C", scale=0.1, id=1),
    Signal("b", "charger_status", labels={1: "Available", 8: "Faulted"}, id=2),
    Signal("c", "power_w", unit="W", id=3),
    Signal("c", "power_w.2", unit="W", id=4),
)


PLACES = {"t": 1, "s": 2, "p": 3, "q": 4}


def world(now_s: float = 100.0, **words: int) -> Facts:
    """Facts of which these words were heard at 100 s: of the temperature, the status, and the two powers."""
    facts = Facts()
    facts.bind(SIGNALS, 90.0)
    ids, column = array("i", map(PLACES.__getitem__, words)), array("q", words.values())
    facts.news(rows_of(Batch(ids, array("q", [0]) * len(ids), column)), 100.0)
    facts.tick(now_s)
    return facts


def judge(text: str, facts: Facts) -> bool | None:
    return compile_truth(parse(text).tree, facts)()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.temperature_degc > 52.3", False),
        ("a.temperature_degc >= 52.3", True),
        ("a.temperature_degc == 52.3", True),
        ("c.power_w", True),
        ("c.power_w - 7", "refused"),
        ("not c.power_w.2", True),
        ('b.charger_status == "faulted"', True),
        ("'AVAILABLE' != b.charger_status", True),
        ("b.charger_status == 8", True),
        ('b.charger_status == "no such label"', False),
        ("c.power_w + c.power_w + c.power_w == 21", True),
        ("c.power_w - 10 - 1 == -4", True),
        ("c.power_w / 2 / 2 == 1.75", True),
        ("c.power_w * 2 * 3 == 42", True),
        ("-c.power_w == -7 and abs(-c.power_w) == 7", True),
        ("min(c.power_w, 5, c.power_w.2) == 0 and max(c.power_w, 5) == 7", True),
        ("c.power_w / c.power_w.2 > 0", None),
        ("c.power_w * 1e308 * 1e308 > 0", None),
        ("c.power_w * 1e308 - c.power_w * 1e308 > 0", None),
        ("c.power_w / 1e-308 < 0", None),
        (f"{'9' * 300} * {'9' * 300} * c.power_w / 3 > 1", None),
        (f"c.power_w < {'9' * 300}", True),
        ("a.nothing > 5", None),
        ("nobody.x", None),
        ("known(a.nothing)", None),
        ("silent(nobody, 5s)", None),
        ("age(nobody) > 5", None),
        ("rate(a.nothing, 5s) > 0", None),
        ("unchanged(a.nothing, 5s)", None),
        ('a.nothing == "x"', None),
        ("known(c.power_w) and not silent(c.power_w, 5.1s) and silent(c, 5s)", True),
        ("age(c) == 5 and age(c.power_w) == 5", True),
    ],
)
def test_values(text: str, expected: object) -> None:
    facts = world(105.0, t=523, s=8, p=7, q=0)
    if expected == "refused":
        with pytest.raises(ConfigError):
            parse(text)
    else:
        assert judge(text, facts) is expected


#: Known to be true, false and unknown in a world without the temperature.
KLEENE = {True: "c.power_w == 7", False: "c.power_w == 8", None: "a.temperature_degc > 5"}


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KLEENE, repeat=2)))
def test_three_values(one: bool | None, other: bool | None) -> None:  # noqa: FBT001
    """Kleene's strong logic: false is the smallest, true the greatest, unknown between them."""
    order = [False, None, True]
    facts = world(p=7)
    ranks = order.index(one), order.index(other)
    assert judge(f"{KLEENE[one]} and {KLEENE[other]}", facts) is order[min(ranks)]
    assert judge(f"{KLEENE[one]} or {KLEENE[other]}", facts) is order[max(ranks)]
    assert judge(f"not {KLEENE[one]}", facts) is order[2 - ranks[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.temperature_degc > 50", "a.temperature_degc is 52.3 °C (> 50)"),
        ("a.temperature_degc < 50", "a.temperature_degc is 52.3 °C (not < 50)"),
        ("50 < a.temperature_degc", "a.temperature_degc is 52.3 °C (> 50)"),
        ("c.power_w", "c.power_w is 7 W"),
        ('b.charger_status == "faulted"', 'b.charger_status is Faulted (== "faulted")'),
        ("b.charger_status", "b.charger_status is Faulted"),
        ("not b.charger_status == 1", "b.charger_status is Faulted (not == 1)"),
        ("c.power_w > c.power_w.2", "c.power_w is 7 W (> c.power_w.2, 0 W)"),
        ("c.power_w - c.power_w.2 / 2 > 5", "c.power_w - c.power_w.2 / 2 is 7 (> 5)"),
        ("abs(c.power_w - 9.5) > 2", "abs(c.power_w - 9.5) is 2.5 W (> 2)"),
        ("c.power_w > 8 or a.temperature_degc > 50", "a.temperature_degc is 52.3 °C (> 50)"),
        ("c.power_w > 8 or c.power_w > 9", "c.power_w is 7 W (not > 8) and c.power_w is 7 W (not > 9)"),
        ("c.power_w > 5 and c.power_w.2 < 5", "c.power_w is 7 W (> 5) and c.power_w.2 is 0 W (< 5)"),
        ("c.power_w > 5 and c.power_w.2 > 5", "c.power_w.2 is 0 W (not > 5)"),
        ("c.power_w > 5 and nobody.x > 5", "there is no nobody.x"),
        ("c.power_w > 5 and c.power_w / c.power_w.2 > 5", "c.power_w / c.power_w.2 > 5 can't be calculated"),
        ("silent(a, 5s)", "a was heard 5 s ago"),
        ("silent(nobody, 5s)", "there is no nobody"),
        ("age(a) > 4", "age(a) is 5 s (> 4)"),
        ("known(a.temperature_degc)", "a.temperature_degc is known"),
        ("unchanged(c.power_w, 10s)", "c.power_w is 7 W since 0 s"),
        ("rate(c.power_w, 5s) < 1", "rate(c.power_w, 5s) is 0 W/s (< 1)"),
        ("rate(c.power_w, 60s) < 1", "rate(c.power_w, 60s) is not known"),
    ],
)
def test_explains_by_what_decided(text: str, expected: str) -> None:
    assert explain(parse(text), world(105.0, t=523, s=8, p=7, q=0)) == expected


def test_explains_what_was_never_heard() -> None:
    facts = world(105.0, p=7)
    assert explain(parse("a.temperature_degc > 5"), facts) == "a.temperature_degc is not known"
    assert explain(parse("silent(a, 5s)"), facts) == "a was never heard"
    assert explain(parse("known(a.temperature_degc)"), facts) == "a.temperature_degc is not known"
    assert explain(parse("unchanged(a.temperature_degc, 5s)"), facts) == "a.temperature_degc is not known"
    assert inputs(parse("silent(a, 5s) or nobody.x > a.temperature_degc"), facts) == {
        "age(a)": 15,
        "a.temperature_degc": None,
        "nobody.x": None,
    }


def test_inputs_are_what_is_read() -> None:
    text = "rate(c.power_w, 5s) > c.power_w.2 or unchanged(b.charger_status, 5s) or silent(a.temperature_degc, 9s)"
    assert inputs(parse(text), world(105.0, t=523, s=8, p=7, q=0)) == {
        "a.temperature_degc": 52.3,
        "age(a.temperature_degc)": 5,
        "b.charger_status": 8,
        "c.power_w": 7,
        "c.power_w.2": 0,
        "rate(c.power_w, 5s)": 0,
    }


HERE = st.sampled_from([signal.full_name for signal in SIGNALS] + ["nobody.x"])


@given(
    truths(HERE, st.sampled_from(["a", "b", "nobody"])), st.dictionaries(st.sampled_from("tspq"), st.integers(-9, 9))
)
def test_whatever_is_asked_it_can_be_judged_and_explained(tree: Truth, words: dict[str, int]) -> None:
    facts = world(105.0, **words)
    condition = Condition(show(tree), tree, subjects(tree))
    assert compile_truth(tree, facts)() in (True, False, None)
    assert explain(condition, facts)
    read: dict[str, Number | None] = inputs(condition, facts)
    assert all(name in read or f"age({name})" in read for name in condition.signals)
