"""Canonical JSON, held against what RFC 8785 prints, and against its own promises."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.jcs import MAX_WHOLE, canonical, members_once, number

#: RFC 8785, appendix B: an IEEE 754 double as hex, and how ECMAScript writes it.
NUMBERS = """
0000000000000000 0
8000000000000000 0
0000000000000001 5e-324
8000000000000001 -5e-324
7fefffffffffffff 1.7976931348623157e+308
ffefffffffffffff -1.7976931348623157e+308
4340000000000000 9007199254740992
c340000000000000 -9007199254740992
4430000000000000 295147905179352830000
44b52d02c7e14af5 9.999999999999997e+22
44b52d02c7e14af6 1e+23
44b52d02c7e14af7 1.0000000000000001e+23
444b1ae4d6e2ef4e 999999999999999700000
444b1ae4d6e2ef4f 999999999999999900000
444b1ae4d6e2ef50 1e+21
3eb0c6f7a0b5ed8c 9.999999999999997e-7
3eb0c6f7a0b5ed8d 0.000001
41b3de4355555553 333333333.3333332
41b3de4355555554 333333333.33333325
41b3de4355555555 333333333.3333333
41b3de4355555556 333333333.3333334
41b3de4355555557 333333333.33333343
becbf647612f3696 -0.0000033333333333333333
43143ff3c1cb0959 1424953923781206.2
"""


@pytest.mark.parametrize(("bits", "text"), [line.split() for line in NUMBERS.split("\n") if line])
def test_numbers_are_written_as_the_rfc_prints_them(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert number(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, MAX_WHOLE + 1, -MAX_WHOLE - 1, 10**400])
def test_what_is_no_number_everywhere_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"number"):
        canonical({"x": value})


def test_the_rfc_s_sample_comes_out_as_it_prints_it() -> None:
    sample = r"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""
    # Section 3.2.4: the bytes, in hexadecimal.
    wanted = bytes.fromhex(
        "7b 22 6c 69 74 65 72 61 6c 73 22 3a 5b 6e 75 6c 6c 2c 74 72 75 65 2c 66 61 6c 73 65 5d 2c 22 6e 75 6d 62 65 72"
        "73 22 3a 5b 33 33 33 33 33 33 33 33 33 2e 33 33 33 33 33 33 33 2c 31 65 2b 33 30 2c 34 2e 35 2c 30 2e 30 30 32"
        "2c 31 65 2d 32 37 5d 2c 22 73 74 72 69 6e 67 22 3a 22 e2 82 ac 24 5c 75 30 30 30 66 5c 6e 41 27 42 5c 22 5c 5c"
        "5c 5c 5c 22 2f 22 7d"
    )
    assert canonical(json.loads(sample)) == wanted


def test_members_are_sorted_by_the_utf_16_of_their_names() -> None:
    """Section 3.2.3: by code points the smile would stand behind the Hebrew letter."""
    sample = (
        r'{"\u20ac":"Euro","\r":"Carriage Return","\ufb33":"Dalet","1":"One","\ud83d\ude00":"Smile","\u0080":"Control",'
        r'"\u00f6":"o"}'
    )
    wanted = ["Carriage Return", "One", "Control", "o", "Euro", "Smile", "Dalet"]
    assert list(json.loads(canonical(json.loads(sample))).values()) == wanted


def test_texts_are_escaped_where_they_must_be_and_nowhere_else() -> None:
    assert (
        canonical('\b\t\n\f\r\x00\x1f\x7f"\\/\u2028é') == '"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\\"\\\\/\u2028é"'.encode()
    )


@pytest.mark.parametrize("value", ["\ud800", {"\udc00": 1}, {1: 2}, b"x", {"x": object()}])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its kind is what is promised
        canonical(value)


def test_an_object_has_each_name_once() -> None:
    with pytest.raises(ValueError, match="one name"):
        json.loads('{"a": {"b": 1, "b": 2}}', object_pairs_hook=members_once)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_WHOLE, MAX_WHOLE) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=5),
)  # fmt: skip


@given(JSON)
def test_the_form_says_the_same_is_found_from_any_other_and_is_its_own(value: object) -> None:
    text = canonical(value)
    assert json.loads(text, parse_int=float) == value
    assert canonical(json.loads(text, parse_int=float)) == text
    for other in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        assert canonical(json.loads(other)) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_as_the_same_double(value: float) -> None:
    assert float(number(value)) == value
