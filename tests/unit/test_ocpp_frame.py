"""OCPP-J messages: what is taken, what is tolerated, and that nothing ever raises (trials O1)."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.codec.ocpp_frame import (
    MAX_DEPTH,
    BadFrame,
    CallFrame,
    ErrorFrame,
    Frame,
    ResultFrame,
    pack_call,
    pack_error,
    pack_result,
    unpack,
)


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('[2,"a","Heartbeat",{}]', CallFrame("a", "Heartbeat", {})),
        ('\r\n [ 2 , "a" ,\t"Heartbeat" , { } ] \n', CallFrame("a", "Heartbeat", {})),
        (b'\xef\xbb\xbf[2,"a","Heartbeat",{}]', CallFrame("a", "Heartbeat", {})),
        ('[3,"a",{"status":"Accepted"}]', ResultFrame("a", {"status": "Accepted"})),
        ('[4,"a","NotSupported","no",{"x":1}]', ErrorFrame("a", "NotSupported", "no", {"x": 1})),
        ('[4,"a"]', ErrorFrame("a", "")),
        ('[4,"a",7,{},"x"]', ErrorFrame("a", "")),
        ('[5,"a","FormatViolation","",{}]', ErrorFrame("a", "FormatViolation", of_result=True)),
        ('[6,"a","NotifyPeriodicEventStream",{}]', CallFrame("a", "NotifyPeriodicEventStream", {}, send=True)),
        # What real chargers send, and what does no harm.
        ('[2,17,"Heartbeat",null]', CallFrame("17", "Heartbeat", {})),
        ('[2,"a","Heartbeat"]', CallFrame("a", "Heartbeat", {})),
        ('[2,"a","Heartbeat",[]]', CallFrame("a", "Heartbeat", {})),
        ('[2,"a","Heartbeat",{},"more"]', CallFrame("a", "Heartbeat", {})),
        ('[2,"a","Authorize",{"idTag":"A\0B\nC"}]', CallFrame("a", "Authorize", {"idTag": "AB\nC"})),
        (r'[2,"a","Authorize",{"idTag":"A\u0000B"}]', CallFrame("a", "Authorize", {"idTag": "AB"})),
        (r'[2,"a","Authorize",{"idTag":"\\u0000"}]', CallFrame("a", "Authorize", {"idTag": r"\u0000"})),
        (r'[2,"a","X",{"\ud83d\ude00":"\ud83d!\udc00"}]', CallFrame("a", "X", {"\U0001f600": "\ufffd!\ufffd"})),
        ('[2,"a","X",{"k":"\ud800"}]', CallFrame("a", "X", {"k": "\ufffd"})),
        (b'[2,"a","X",{"unit":"\xb0C"}]', CallFrame("a", "X", {"unit": "\ufffdC"})),
        ('[2,"a","X",{"k":1,"k":2}]', CallFrame("a", "X", {"k": 2})),
        (
            '[2,"a","X",{"a":NaN,"b":-Infinity,"c":1e999,"d":1.5}]',
            CallFrame("a", "X", dict.fromkeys("abc") | {"d": 1.5}),
        ),
    ],
)
def test_frames(text: str | bytes, frame: Frame) -> None:
    assert unpack(text) == frame


@pytest.mark.parametrize(
    ("text", "name", "reply"),
    [
        ("", None, True),
        ("hello", None, True),
        ("{}", None, True),
        ("null", None, True),
        ("[]", None, False),
        ("[[]]", None, False),
        ("[true,1]", "1", False),
        ("[2.0,1]", "1", False),
        ('[9,"a","X",{}]', "a", False),
        ("[2]", None, True),
        ('[2,null,"Heartbeat",{}]', None, True),
        ('[2,true,"Heartbeat",{}]', None, True),
        ('[2,1.5,"Heartbeat",{}]', None, True),
        ('[2,{"a":1},"Heartbeat",{}]', None, True),
        ('[2,"' + "i" * 256 + '","Heartbeat",{}]', None, True),
        ('[2,"a"]', "a", True),
        ('[2,"a",{"b":1},{}]', "a", True),
        ('[2,"a",["b"],{}]', "a", True),
        ('[2,"a","",{}]', "a", True),
        ('[2,"a","' + "X" * 65 + '",{}]', "a", True),
        ('[2,"a","Heartbeat",[1]]', "a", True),
        ('[2,"a","Heartbeat","x"]', "a", True),
        ('[6,"a","Heartbeat","x"]', "a", False),
        ('[3,"a"]', "a", False),
        ('[3,"a",null]', "a", False),
        ('[3,"a",[]]', "a", False),
        ('[4,null,"x"]', None, False),
        # Not JSON, but whose it is can be read.
        ('[2,"a","X",{"n":' + "1" * 5000 + "}]", "a", True),
        ('[2,"a","X",{"n":-' + "1" * 41 + "}]", "a", True),
        ('[2,"a","X",{"n":12', "a", True),
        ('[2,"a","X",{}] [', "a", True),
        (r'[2,"\"\u00e4","X",{', '"ä', True),
        ('[2, 17 ,"X",{', "17", True),
        ('[3,"a",{', "a", False),
        (r'[2,"\u\u0000D800",', None, True),
        (r'[2,"a","\u\u0000D800",{}]', "a", True),
        ('[2,"a","X",' + "[" * 500_000, "a", True),
        ('[2,"a","X",' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "]", "a", True),
        ('[2,"a","X",{"a":' + "[" * 80 + "]" * 80 + "}]", "a", True),
    ],
)
def test_what_cannot_be_used_still_says_whose_it_is(text: str, name: str | None, reply: bool) -> None:  # noqa: FBT001
    frame = unpack(text)
    assert isinstance(frame, BadFrame), frame
    assert (frame.id, frame.reply) == (name, reply), frame
    assert frame.reason
    assert len(frame.sample) <= 400
    assert frame.sample.isascii()
    assert frame.sample.isprintable()


def test_length_is_bounded() -> None:
    text = '[2,"a","X",{"k":"' + "x" * (1 << 20) + '"}]'
    assert isinstance(unpack(text), BadFrame)
    assert isinstance(unpack(text, 1 << 21), CallFrame)
    assert isinstance(unpack(text.encode(), max_bytes=100), BadFrame)


def test_wide_messages_are_not_deep() -> None:
    payload: Mapping[str, object] = {"a": [{"b": [n]} for n in range(5000)]}
    assert unpack(pack_call("a", "X", payload)) == CallFrame("a", "X", payload)
    deepest = '[2,"a","X",{"a":' + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2) + "}]"
    assert isinstance(unpack(deepest), CallFrame)
    assert isinstance(unpack(deepest.replace("[]", "[[]]")), BadFrame)


def test_what_is_not_json_is_not_packed() -> None:
    loop: dict[str, object] = {}
    loop["a"] = loop
    for payload in ({"a": float("nan")}, {"a": object()}, {"a": {1, 2}}, loop):
        with pytest.raises(ValueError, match=r".+"):
            pack_result("a", payload)
    assert json.loads(pack_error("a", "InternalError", "x" * 300)) == [4, "a", "InternalError", "x" * 255, {}]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
_HOSTILE = st.one_of(
    st.binary(max_size=400),
    st.text(st.characters(codec=None), max_size=400),
    st.lists(st.sampled_from([2, 3, 4, 5, 6, "a", "Heartbeat", {}, None]) | _JSON, max_size=6).map(json.dumps),
    st.tuples(
        st.sampled_from(['[2,"a","X",{"k":"v"}]', '[3,"a",{}]', r'[2,"\ud800","\u0000",{}]']),
        st.integers(0, 30),
        st.text(st.sampled_from('[]{}",:\\u0d8NaInfty19eE-+. \0\ud800'), max_size=8),
    ).map(lambda part: part[0][: part[1]] + part[2] + part[0][part[1] :]),
)


def _holds(text: str | bytes) -> None:
    """Whatever came: a frame, and one that can be stored, sent on and shown."""
    frame = unpack(text)
    if isinstance(frame, CallFrame | ResultFrame):
        again = json.dumps(frame.payload, ensure_ascii=False, allow_nan=False)
        again.encode()
        assert "\0" not in again
        assert r"\u0000" not in again.replace("\\\\", "")
    if frame.id is not None:
        frame.id.encode()
        assert len(frame.id) <= 255


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_HOSTILE)
def test_nothing_raises(text: str | bytes) -> None:
    _holds(text)


@pytest.mark.long
@settings(max_examples=100_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_HOSTILE)
def test_nothing_raises_at_length(text: str | bytes) -> None:
    _holds(text)


_CLEAN = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), 1 << 64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _CLEAN,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_CLEAN, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(_CLEAN, st.text("ABCabc", min_size=1), st.dictionaries(_CLEAN, _VALUES))
def test_what_is_packed_is_unpacked(name: str, action: str, payload: dict[str, object]) -> None:
    assert unpack(pack_call(name, action, payload)) == CallFrame(name, action, payload)
    assert unpack(pack_result(name, payload).encode()) == ResultFrame(name, payload)
    assert unpack(pack_error(name, "GenericError")) == ErrorFrame(name, "GenericError")
