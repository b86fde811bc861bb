"""The text of a condition -> its tree. A descent over tokens that never evaluates anything.

    condition  = part { "or" part }          part       = term { "and" term }
    term       = "not" term | comparison     comparison = sum [ ("<" | "<=" | ">" | ">=" | "==" | "!=") sum ]
    sum        = product { ("+" | "-") product }
    product    = factor { ("*" | "/") factor }
    factor     = "-" factor | number | text | signal | function "(" … ")" | "(" condition ")"

A name goes on over hyphens, so ``a.x -1`` and ``a.x - 1`` are differences and ``a.x-1`` is a name.
"""

from collections.abc import Callable

from agent.control.when_tokens import (
    MAX_CHARS,
    MAX_DURATION_S,
    MIN_DURATION_S,
    Token,
    is_duration,
    is_name,
    number_of,
    refused,
    seconds_of,
    tokens_of,
)
from agent.control.when_tree import (
    Calc,
    Check,
    Compare,
    Const,
    Logic,
    Measure,
    Node,
    Read,
    Text,
    Truth,
    Value,
    children,
    is_device,
    nodes,
)
from agent.core.model import Number

MAX_DEPTH = 32
#: Signals and devices together.
MAX_SUBJECTS = 64
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_EQUALITIES = ("==", "!=")
_KEYWORDS = ("and", "or", "not")
#: Functions over values: how many they take at least and at most.
_CALCS = {"abs": (1, 1), "min": (2, MAX_CHARS), "max": (2, MAX_CHARS)}
#: Functions over time: whether they take a device too, and whether a duration follows.
_MEASURES = {"rate": (False, True), "age": (True, False)}
_CHECKS = {"silent": (True, True), "known": (False, False), "unchanged": (False, True)}
_USES = {
    "abs": "abs(battery1.power_w)",
    "min": "min(battery1.soc_pct, battery2.soc_pct)",
    "max": "max(battery1.soc_pct, battery2.soc_pct)",
    "rate": "rate(battery1.temperature_degc, 60s)",
    "age": "age(battery1)",
    "silent": "silent(battery1, 30s)",
    "known": "known(battery1.soc_pct)",
    "unchanged": "unchanged(battery1.alive_counter, 10s)",
}

_Rule = Callable[[], Node]


def parse_tree(text: str) -> Truth:
    """The tree of a condition. Raises ``ConfigError`` with the column and what to write instead."""
    parser = _Parser(text)
    tree = parser.truth(parser.condition(), 1)
    parser.end()
    check_limits(tree)
    return tree


def parse_rest(text: str, left: Value) -> Truth:
    """The tree of a comparison whose left side is given: ``< 45``. Raises ``ConfigError``."""
    parser = _Parser(text)
    tree = parser.comparison(left)
    parser.end()
    check_limits(tree)
    return tree


def starts_with_comparison(text: str) -> bool:
    """Whether it lacks a left side."""
    return text.lstrip()[:1] in ("<", ">", "=", "!")


def check_limits(tree: Truth) -> None:
    """Raises ``ConfigError`` where a tree is larger than conditions may be."""
    level: list[Node] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in children(node)]
    if level:
        raise refused(1, f"it is nested more than {MAX_DEPTH} deep", "make several alarms or rules of it")
    if len(subjects(tree)) > MAX_SUBJECTS:
        raise refused(1, f"it reads more than {MAX_SUBJECTS} signals", "make several alarms or rules of it")


def subjects(tree: Node) -> frozenset[str]:
    """All signals and devices that a tree is about."""
    found = {node.signal for node in nodes(tree) if isinstance(node, Read)}
    found.update(node.subject for node in nodes(tree) if isinstance(node, Measure | Check))
    return frozenset(found)


class _Parser:
    """One pass over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens_of(text)
        self._at = 0
        self._depth = 0

    # -- the grammar, weakest binding first

    def condition(self) -> Node:
        return self._joined("or", self._part)

    def _part(self) -> Node:
        return self._joined("and", self._term)

    def _joined(self, word: str, operand: _Rule) -> Node:
        column = self._now.column
        first = operand()
        if not self._is_word(word):
            return first
        parts = [self.truth(first, column)]
        while self._is_word(word):
            self._at += 1
            column = self._now.column
            parts.append(self.truth(operand(), column))
        return Logic(word, tuple(parts))

    def _term(self) -> Node:
        if not self._is_word("not"):
            return self._compared()
        self._at += 1
        column = self._now.column
        return Logic("not", (self.truth(self._deeper(self._term), column),))

    def _compared(self) -> Node:
        column = self._now.column
        left = self._sum()
        if self._now.text not in _COMPARISONS:
            return left
        return self.comparison(self._value(left, column))

    def comparison(self, left: Value) -> Truth:
        """What follows the left side of a comparison."""
        sign = self._take()
        if sign.text not in _COMPARISONS:
            raise refused(sign.column, f"`{sign.text}` compares nothing", "write <, <=, >, >=, == or !=")
        column = self._now.column
        right = self._value(self._sum(), column)
        if isinstance(left, Text) or isinstance(right, Text):
            signal = left if isinstance(right, Text) else right
            if not isinstance(signal, Read):
                raise refused(
                    column, "a text is compared with a signal only", 'write `cp1.charger_status == "Faulted"`'
                )
            if sign.text not in _EQUALITIES:
                raise refused(sign.column, f"`{sign.text}` does not compare texts", "write == or !=")
        if self._now.text in _COMPARISONS:
            hint = "write `a.x > 1 and a.x < 5` instead of `1 < a.x < 5`"
            raise refused(self._now.column, "two comparisons in one", hint)
        return Compare(sign.text, left, right)

    def _sum(self) -> Node:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._chain(("*", "/"), self._factor)

    def _chain(self, signs: tuple[str, str], operand: _Rule) -> Node:
        column = self._now.column
        tree = operand()
        joined = False  # whether `tree` is a sum (product) of this chain: then it grows
        while self._now.kind == "sign" and self._now.text in signs:
            sign = self._take().text
            left = self._number(tree, column)
            column = self._now.column
            right = self._number(operand(), column)
            if joined and sign == signs[0] and isinstance(left, Calc) and left.op == sign:
                tree = Calc(sign, (*left.args, right))
            else:
                tree = Calc(sign, (left, right))
            joined = True
        return tree

    def _factor(self) -> Node:
        if self._now.text != "-":
            return self._atom()
        self._at += 1
        column = self._now.column
        value = self._number(self._deeper(self._factor), column)
        return Const(-value.value) if isinstance(value, Const) else Calc("neg", (value,))

    def _atom(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return Const(number_of(token))
        if token.kind == "text":
            return Text(token.text[1:-1])
        if token.kind == "word":
            return self._named(token)
        if token.text == "(":
            inner = self._deeper(self.condition)
            self._expect(")", token)
            return inner
        if token.kind == "end":
            raise refused(
                token.column, "something is missing at the end", "write a condition, such as `battery1.soc_pct < 20`"
            )
        raise refused(
            token.column, f"a value is missing before `{token.text}`", "write a number or a signal: `device.point`"
        )

    def _named(self, token: Token) -> Node:
        word = token.text
        if self._now.text == "(":
            return self._function(token)
        if not is_device(word):
            return Read(self._signal(token))
        if word in _KEYWORDS:
            raise refused(
                token.column, f"a condition is missing before `{word}`", f"write one on both sides of `{word}`"
            )
        if word.lower() in ("true", "false"):
            raise refused(token.column, f"`{word}` is no value", "write 1 or 0, or the signal alone for `is not 0`")
        if is_duration(word):
            raise refused(token.column, f"a duration, `{word}`, stands alone", "write it into `silent(…)` or `rate(…)`")
        hint = f"write `{word}.` and the name of a point, such as `battery1.soc_pct`; blanks around `-`"
        raise refused(token.column, f"`{word}` is no signal", hint)

    # -- functions

    def _function(self, name: Token) -> Node:
        self._at += 1
        if name.text in _CALCS:
            return self._deeper(lambda: self._calc(name))
        takes = _MEASURES.get(name.text) or _CHECKS.get(name.text)
        if takes is None:
            raise refused(name.column, f"there is no function `{name.text}`", f"there are {', '.join(sorted(_USES))}")
        device_too, lasting = takes
        subject = self._take()
        # Clients post under any name: `7` and `1e5` are devices where one is asked for.
        named = subject.kind == "word" or (subject.kind == "number" and is_name(subject.text))
        if not named or (is_device(subject.text) and not device_too):
            who = "a signal or a device" if device_too else "a signal"
            raise refused(subject.column, f"`{name.text}` is about {who}", f"write `{_USES[name.text]}`")
        about = subject.text if is_device(subject.text) else self._signal(subject)
        if is_device(about) and about.startswith("_"):
            raise refused(subject.column, f"no device is called `{about}`", f"write `{_USES[name.text]}`")
        seconds = self._duration(name) if lasting else None
        self._expect(")", name)
        return (Measure if name.text in _MEASURES else Check)(name.text, about, seconds)

    def _calc(self, name: Token) -> Node:
        args: list[Value] = []
        while not args or self._now.text == ",":
            self._at += bool(args)
            column = self._now.column
            args.append(self._number(self._sum(), column))
        self._expect(")", name)
        least, most = _CALCS[name.text]
        if not least <= len(args) <= most:
            many = "one value" if most == 1 else "two values or more"
            raise refused(name.column, f"`{name.text}` takes {many}", f"write `{_USES[name.text]}`")
        return Calc(name.text, tuple(args))

    def _duration(self, name: Token) -> Number:
        self._expect(",", name)
        token = self._take()
        seconds = seconds_of(token)
        if seconds is None:
            raise refused(token.column, f"`{token.text}` is no duration", "write `10s`, `5min`, `2h`, or seconds")
        if not MIN_DURATION_S <= seconds <= MAX_DURATION_S:
            raise refused(token.column, "a duration is from 1 ms to 366 days", "write `10s`, `5min`, `2h`, or seconds")
        return seconds

    def _signal(self, token: Token) -> str:
        if token.text.startswith("_"):
            raise refused(
                token.column, f"`{token.text}` is no signal", "write `device.point`; devices begin with a letter"
            )
        return token.text

    # -- what kind of thing stands where

    def truth(self, node: Node, column: int) -> Truth:
        """The node as a condition."""
        if isinstance(node, Read | Check | Compare | Logic):
            return node
        raise refused(column, "a value stands where a condition is asked for", "compare it: `… > 5`")

    def _value(self, node: Node, column: int) -> Value:
        if isinstance(node, Check | Compare | Logic):
            raise refused(
                column, "a condition stands where a value is compared", "join conditions by `and`, `or`, `not`"
            )
        return node

    def _number(self, node: Node, column: int) -> Value:
        if isinstance(node, Text):
            raise refused(column, "nothing can be calculated with a text", "compare it with a signal by == or !=")
        if isinstance(node, Check | Compare | Logic):
            raise refused(column, "nothing can be calculated with a condition", "join conditions by `and`, `or`, `not`")
        return node

    # -- tokens

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _is_word(self, word: str) -> bool:
        return self._now.kind == "word" and self._now.text.lower() == word

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _expect(self, text: str, since: Token) -> None:
        token = self._take()
        if token.text != text or token.kind == "text":
            found = f"before `{token.text}`" if token.text else "at the end"
            hint = f"write `{_USES[since.text]}`" if since.text in _USES else "each `(` needs its `)`"
            raise refused(token.column, f"`{text}` is missing {found}", hint)

    def _deeper(self, rule: _Rule) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise refused(
                self._now.column, f"it is nested more than {MAX_DEPTH} deep", "make several alarms or rules of it"
            )
        node = rule()
        self._depth -= 1
        return node

    def end(self) -> None:
        """Nothing may follow."""
        token = self._now
        if token.kind == "end":
            return
        hint = "each `)` needs its `(`" if token.text == ")" else "join conditions by `and` or `or`"
        raise refused(token.column, f"`{token.text}` stands behind a complete condition", hint)
