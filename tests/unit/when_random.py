"""Random trees of conditions, such as the parser makes them, and random texts that look like conditions."""

from hypothesis import strategies as st

from agent.control.when_tree import Calc, Check, Compare, Const, Logic, Measure, Read, Text, Truth, Value
from agent.core.model import Number

DURATIONS = st.one_of(
    st.sampled_from([0.001, 0.5, 1, 2, 60, 31_622_400]), st.floats(0.001, 1e6).filter(lambda s: s % 1)
)
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0, 1, -1, 0.1])
)
TEXTS = st.text(max_size=8).filter(lambda text: not ('"' in text and "'" in text))
NAMES = ("battery1.soc_pct", "cp-1.current_a.2", "b2.Msg.Sig_1", "7a._x", "grid.power_w")
DEVICES = ("battery1", "cp-1", "7a", "and", "min")


def values(
    names: st.SearchStrategy[str], devices: st.SearchStrategy[str], durations: st.SearchStrategy[Number]
) -> st.SearchStrategy[Value]:
    leaves: st.SearchStrategy[Value] = st.one_of(
        st.builds(Const, NUMBERS),
        st.builds(Read, names),
        st.builds(Measure, st.just("rate"), names, durations),
        st.builds(Measure, st.just("age"), st.one_of(names, devices)),
    )

    def more(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
        several = st.lists(inner, min_size=2, max_size=4).map(tuple)
        # The parser makes a number of the contrary of a number.
        negative = inner.filter(lambda one: not isinstance(one, Const))
        return st.one_of(
            st.builds(Calc, st.sampled_from(["+", "*", "min", "max"]), several),
            st.builds(Calc, st.sampled_from(["-", "/"]), st.tuples(inner, inner)),
            st.builds(Calc, st.just("abs"), st.tuples(inner)),
            st.builds(Calc, st.just("neg"), st.tuples(negative)),
        )

    return st.recursive(leaves, more, max_leaves=6)


def truths(
    names: st.SearchStrategy[str] | None = None,
    devices: st.SearchStrategy[str] | None = None,
    durations: st.SearchStrategy[Number] = DURATIONS,
) -> st.SearchStrategy[Truth]:
    names = st.sampled_from(NAMES) if names is None else names
    devices = st.sampled_from(DEVICES) if devices is None else devices
    value = values(names, devices, durations)
    equal = st.sampled_from(["==", "!="])
    leaves: st.SearchStrategy[Truth] = st.one_of(
        st.builds(Compare, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), value, value),
        st.builds(Compare, equal, st.builds(Read, names), st.builds(Text, TEXTS)),
        st.builds(Compare, equal, st.builds(Text, TEXTS), st.builds(Read, names)),
        st.builds(Read, names),
        st.builds(Check, st.just("silent"), st.one_of(names, devices), durations),
        st.builds(Check, st.just("unchanged"), names, durations),
        st.builds(Check, st.just("known"), names),
    )

    def more(inner: st.SearchStrategy[Truth]) -> st.SearchStrategy[Truth]:
        return st.one_of(
            st.builds(Logic, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=4).map(tuple)),
            st.builds(Logic, st.just("not"), st.tuples(inner)),
        )

    return st.recursive(leaves, more, max_leaves=8)


#: What texts that are nearly conditions consist of.
WORDS = (
    *"<>=!()+-*/,.\"'% \t",
    *("<=", ">=", "==", "!=", "and", "or", "not", "AND", "min", "max", "abs", "rate", "age", "silent", "known"),
    *(
        "unchanged",
        "10s",
        "5min",
        "1e5",
        "1e999",
        "1.5",
        "0",
        "007",
        "battery1",
        "battery1.soc_pct",
        "a-b.c-d.1",
        "_x.y",
    ),
    *('"Faulted"', "'", "é", "\n", "\x00", "٣", "true"),
)
NEARLY = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=40).map("".join),
    st.tuples(
        st.sampled_from(["(", "not ", "-", "abs(", "1-", "1/", "a.b or ", "a.b and (", "max(1,"]), st.integers(0, 400)
    ).map(lambda pair: pair[0] * pair[1] + "a.b > 1"),
)
