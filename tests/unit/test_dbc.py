"""A DBC file with faults loads: each fault is named with its line, and costs the smallest part of the file."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.codec.can_frame import FrameDecoder, MessageCodec
from drivers.codec.dbc import Dbc, Finding, MessageDef, load_dbc
from drivers.codec.dbc_document import MAX_FINDINGS
from tests.unit.can_random import dice, random_dbc

GOOD = """VERSION "1.0"

NS_ :
\tNS_DESC_
\tCM_
\tBA_DEF_
\tSG_MUL_VAL_

BS_:

BU_: BMS
 Charger
BO_ 256 Pack: 8 BMS
 SG_ Voltage : 0|16@1+ (0.1,0) [0|100] "V" Charger
 SG_ Current : 16|16@1- (0.1,-1.5) [-400|400] "A" Charger,BMS
 SG_ Mode : 32|2@1+ (1,0) [0|3] "" Vector__XXX

BO_ 2566848766 Far: 8 BMS
 SG_ Speed : 31|16@0+ (0.125,0) [0|0] "rpm" Vector__XXX

CM_ BO_ 256 "What the pack
says; in two lines";
CM_ SG_ 256 Voltage "at the terminals";
BA_DEF_ BO_ "GenMsgCycleTime" INT 0 10000;
BA_DEF_DEF_ "GenMsgCycleTime" 0;
BA_ "GenMsgCycleTime" BO_ 256 100;
VAL_ 256 Mode 0 "off" 1 "charge \\"fast\\"" 2 "idle" ;
"""


def load(text: str) -> Dbc:
    return load_dbc(text.encode(), "test.dbc")


def names(dbc: Dbc) -> list[str]:
    return [f"{message.name}.{signal.name}" for message in dbc.messages for signal in message.signals]


def only(dbc: Dbc) -> Finding:
    assert len(dbc.findings) == 1, dbc.findings
    return dbc.findings[0]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


ALL = ["Pack.Voltage", "Pack.Current", "Pack.Mode", "Far.Speed"]


def test_a_good_file_has_no_findings() -> None:
    dbc = load(GOOD)
    assert dbc.findings == ()
    pack, far = dbc.messages
    assert (pack.frame_id, pack.extended, pack.length, pack.cycle_time_ms) == (256, False, 8, 100)
    assert pack.comment == "What the pack\nsays; in two lines"
    voltage, current, mode = pack.signals
    assert (voltage.unit, voltage.scale, voltage.minimum, voltage.maximum) == ("V", 0.1, 0, 100)
    assert voltage.comment == "at the terminals"
    assert (current.signed, current.offset, current.minimum) == (True, -1.5, -400)
    assert mode.choices == {0: "off", 1: 'charge "fast"', 2: "idle"}
    assert (far.frame_id, far.extended, far.j1939) == (0x18FF00FE, True, True)
    assert (far.signals[0].byte_order, far.signals[0].minimum) == ("big", None)
    assert far.cycle_time_ms is None


@pytest.mark.parametrize(
    ("encoding", "newline"),
    [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("cp1252", "\r\n"), ("utf-16", "\n"), ("cp1252", "\r")],
)
def test_encodings_and_line_ends(encoding: str, newline: str) -> None:
    text = GOOD.replace('"V"', '"°C µ"').replace("\n", newline)
    dbc = load_dbc(text.encode(encoding), "test.dbc")
    assert dbc.findings == ()
    assert names(dbc) == ALL
    assert dbc.messages[0].signals[0].unit == "°C µ"


#: fault, what is replaced by what, what still loads, words that the finding holds
FAULTS = [
    ("value table of an unknown signal", "VAL_ 256 Mode", "VAL_ 256 Mood", ALL, ["Mood", "Pack"]),
    ("value table of an unknown message", "VAL_ 256 Mode", "VAL_ 257 Mode", ALL, ["Mode", "257"]),
    ("value table of the pseudo-message", "VAL_ 256 Mode", "VAL_ 3221225472 Mode", ALL, ["Mode", "3221225472"]),
    ("entry of a value table", ' 2 "idle"', ' 2.5 "idle"', ALL, ["2.5", "Pack.Mode"]),
    ("value table cut", '"idle" ;', '"idle ;', ALL, ["VAL_"]),
    ("name begins with a digit", "SG_ Mode", "SG_ 2Mode", [*ALL[:2], "Pack.2Mode", ALL[3]], ["2Mode"]),
    ("name is a keyword", "SG_ Mode", "SG_ VAL_", [*ALL[:2], "Pack.VAL_", ALL[3]], ["VAL_"]),
    ("odd name", "SG_ Mode", "SG_ Mo-de (x) µ", [*ALL[:2], "Pack.Mo-de (x) µ", ALL[3]], ["Mo-de"]),
    ("message name begins with a digit", "Far:", "2Far:", [*ALL[:3], "2Far.Speed"], ["2Far"]),
    ("broken signal", "31|16@0+", "31|@0+", ALL[:3], ["Speed"]),
    ("signal without a place", "31|16@0+", "31|0@0+", ALL[:3], ["Far", "Speed"]),
    ("signal far away", "31|16@0+", "99999999|16@0+", ALL[:3], ["Far", "Speed"]),
    ("huge signal", "31|16@0+", "31|4294967295@0+", ALL[:3], ["Far", "Speed"]),
    ("scale beyond numbers", "(0.125,0)", "(1e999,0)", ALL[:3], ["Speed"]),
    ("broken message", "BO_ 2566848766 Far:", "BO_ 2566848766 Far", ALL[:3], ["Far"]),
    ("id out of range", "2566848766 Far", "4294967295 Far", ALL[:3], ["Far", "4294967295"]),
    ("id beyond 32 bits", "2566848766 Far", "99999999999 Far", ALL[:3], ["Far"]),
    ("id without the flag", "2566848766 Far", "419365118 Far", ALL, ["Far", "29-bit"]),
    ("length of a message", "Far: 8", "Far: 99999999", ALL[:3], ["Far"]),
    ("outside", "31|16@0+", "63|16@0+", ALL, ["Far.Speed", "9 bytes"]),
    ("overlap", "16|16@1-", "15|16@1-", ALL, ["Voltage", "Current", "Pack"]),
    ("duplicate signal", "SG_ Current", "SG_ Voltage", ["Pack.Voltage", "Pack.Voltage_2", *ALL[2:]], ["Voltage"]),
    ("duplicate message name", "66 Far:", "66 Pack:", [*ALL[:3], "Pack_2.Speed"], ["Pack"]),
    ("duplicate id", "BO_ 2566848766 Far", "BO_ 256 Far", ["Far.Speed"], ["Pack", "Far", "256"]),
    ("stray text", "BS_:", "lorem ipsum\n\nBS_:", ALL, ["lorem ipsum"]),
    ("undefined attribute", 'BA_DEF_ BO_ "Gen', 'BA_DEF_ BO_ "Men', ALL, ["GenMsgCycleTime"]),
    ("attribute of a wrong kind", "BO_ 256 100;", 'BO_ 256 "often";', ALL, ["GenMsgCycleTime"]),
    (
        "float of odd size",
        "CM_ BO_ 256",
        "SIG_VALTYPE_ 256 Mode : 1;\nCM_ BO_ 256",
        [*ALL[:2], ALL[3]],
        ["Mode", "float"],
    ),
    ("type of nothing", "CM_ BO_ 256", "SIG_VALTYPE_ 256 Nothing : 1;\nCM_ BO_ 256", ALL, ["Nothing"]),
    ("marker of no kind", "SG_ Mode :", "SG_ Mode mX :", [*ALL[:2], ALL[3]], ["Mode", "multiplexer"]),
    ("multiplexed by nothing", "SG_ Mode :", "SG_ Mode m1 :", ALL, ["Pack.Mode", "multiplexer"]),
    (
        "values of no multiplexer",
        "CM_ BO_ 256",
        "SG_MUL_VAL_ 256 Mode Voltage 1-2;\nCM_ BO_ 256",
        ALL,
        ["Mode", "Voltage"],
    ),
]


@pytest.mark.parametrize(("old", "new", "left", "words"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_costs_only_what_it_is_in(old: str, new: str, left: list[str], words: list[str]) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    dbc = load(text)
    assert names(dbc) == left
    relevant = [f for f in dbc.findings if all(word in f.text for word in words)]
    assert relevant, dbc.findings
    assert all(finding.hint and finding.file == "test.dbc" for finding in dbc.findings)
    assert any(abs(finding.line - line_of(text, new.split("\n", maxsplit=1)[0])) <= 2 for finding in dbc.findings), (
        dbc.findings
    )
    for message in dbc.messages:
        assert isinstance(MessageCodec(message).decode(bytes(message.length)), dict)


def test_severity_says_whether_something_is_missing() -> None:
    assert only(load(GOOD.replace("31|16@0+", "31|@0+"))).severity == "error"
    assert only(load(GOOD.replace("VAL_ 256 Mode", "VAL_ 256 Mood"))).severity == "warning"
    assert str(only(load(GOOD.replace("Far: 8", "Far: x")))).startswith("test.dbc:18: error: message 'Far'")


def test_signals_of_a_broken_message_do_not_fall_to_the_one_before() -> None:
    dbc = load(GOOD.replace("BO_ 2566848766 Far:", "BO_ Far:"))
    assert names(dbc) == ALL[:3]
    assert only(dbc).line == 18


def test_a_file_cut_off_anywhere_gives_what_stands_before_the_cut() -> None:
    complete = [i for i in range(len(GOOD)) if GOOD.startswith('" ', i) and " SG_" in GOOD[GOOD.rfind("\n", 0, i) : i]]
    assert len(complete) == len(ALL)
    for end in range(0, len(GOOD), 5):
        dbc = load(GOOD[:end])
        assert names(dbc) == ALL[: len(names(dbc))]
        assert len(names(dbc)) >= sum(place < end for place in complete)
    cut = load(GOOD[: GOOD.index("(0.125,0)")])
    assert names(cut) == ALL[:3]
    assert "cut off" in cut.findings[-1].hint


@pytest.mark.parametrize("data", [b"correct horse battery staple\n", b'BU_ "correct horse" : battery'])
def test_a_file_that_is_no_dbc_is_not_repeated(data: bytes) -> None:
    told = load_dbc(data, "password")
    assert [str(one) for one in told.findings] == [
        "password:0: error: no DBC statement in this file (is it a DBC file?)"
    ]


def test_missing_sections_are_fine() -> None:
    dbc = load('BO_ 1 A: 8 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X')
    assert (names(dbc), dbc.findings) == (["A.s"], ())


def test_layout_may_be_free() -> None:
    dbc = load('BO_ 1 A : 8 SG_ s:0|8@1+(1,.5)[0|0]"" X // remark\nBO_ 2 B: 8 X SG_ t m:x\n')
    assert names(dbc)[:1] == ["A.s"]


def test_a_repaired_identifier_is_found_by_what_refers_to_it() -> None:
    dbc = load('BO_ 419365118 Far: 8 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\nVAL_ 419365118 s 1 "on" ;\n')
    assert (dbc.messages[0].frame_id, dbc.messages[0].extended) == (419365118, True)
    assert dbc.messages[0].signals[0].choices == {1: "on"}


def test_the_later_of_two_definitions_of_one_id_keeps_its_tables() -> None:
    twice = "".join(f'BO_ 1 A{n}: 8 X\n SG_ s{n} : 0|32@1+ (1,0) [0|0] "" X\n' for n in range(2))
    dbc = load(twice + 'SIG_VALTYPE_ 1 s1 : 1;\nVAL_ 1 s1 1 "on" ;\n')
    assert names(dbc) == ["A1.s1"]
    assert dbc.messages[0].signals[0].is_float
    assert only(dbc).severity == "error"


def test_long_names_replace_short_ones_of_multiplexers_too() -> None:
    text = """BO_ 1 Short: 8 X
 SG_ Mux M : 0|8@1+ (1,0) [0|0] "" X
 SG_ One m1 : 8|8@1+ (1,0) [0|0] "" X
BA_DEF_ SG_ "SystemSignalLongSymbol" STRING ;
BA_DEF_ BO_ "SystemMessageLongSymbol" STRING ;
BA_ "SystemSignalLongSymbol" SG_ 1 Mux "A_very_long_multiplexer";
BA_ "SystemMessageLongSymbol" BO_ 1 "A_very_long_message";
"""
    dbc = load(text)
    assert dbc.findings == ()
    assert names(dbc) == ["A_very_long_message.A_very_long_multiplexer", "A_very_long_message.One"]
    codec = MessageCodec(dbc.messages[0])
    assert codec.decode(b"\x01\x05" + bytes(6)) == {"A_very_long_multiplexer": 1, "One": 5}


def test_a_signal_may_stand_in_many_values_of_a_multiplexer() -> None:
    text = """BO_ 1 A: 8 X
 SG_ Mux M : 0|32@1+ (1,0) [0|0] "" X
 SG_ One m1 : 32|8@1+ (1,0) [0|0] "" X
SG_MUL_VAL_ 1 One Mux 1-1, 7-4000000000, 9-3;
"""
    dbc = load(text)
    assert dbc.messages[0].signals[1].mux_values == ((1, 1), (7, 4_000_000_000))
    assert "9-3" in only(dbc).text


def test_a_multiplexer_that_is_a_float_takes_only_its_dependants_along() -> None:
    text = """BO_ 1 A: 8 X
 SG_ Mux M : 0|32@1+ (1,0) [0|0] "" X
 SG_ One m1 : 32|8@1+ (1,0) [0|0] "" X
 SG_ Always : 40|8@1+ (1,0) [0|0] "" X
SIG_VALTYPE_ 1 Mux : 1;
"""
    dbc = load(text)
    assert names(dbc) == ["A.Mux", "A.Always"]
    assert "One" in only(dbc).text
    assert not dbc.messages[0].multiplexed


def test_signals_of_different_multiplexer_values_may_share_bits() -> None:
    text = """BO_ 1 A: 8 X
 SG_ Mux M : 0|8@1+ (1,0) [0|0] "" X
 SG_ One m1 : 8|8@1+ (1,0) [0|0] "" X
 SG_ Two m2 : 8|8@1+ (1,0) [0|0] "" X
"""
    assert load(text).findings == ()
    shared = load(text + "SG_MUL_VAL_ 1 Two Mux 1-2;\n")
    assert "One and Two" in only(shared).text


@pytest.mark.parametrize(
    ("attributes", "dbc_id", "expected"),
    [
        ("", 0x98FF5010, False),
        ("", 0x98FF50FE, True),
        ("", 0xFE, False),
        ('BA_DEF_ "ProtocolType" STRING ;\nBA_ "ProtocolType" "J1939";\n', 0x98FF5010, True),
        ('BA_DEF_ "ProtocolType" STRING ;\nBA_ "ProtocolType" "J1939";\n', 0x123, False),
        ('BA_DEF_ BO_ "VFrameFormat" ENUM "A","B","C","J1939PG";\nBA_ "VFrameFormat" BO_ {0} 3;\n', 0x98FF5010, True),
        ('BA_DEF_ BO_ "VFrameFormat" ENUM "A","B","C","J1939PG";\nBA_ "VFrameFormat" BO_ {0} 1;\n', 0x98FF5010, False),
    ],
)
def test_j1939_is_what_the_file_says_or_a_null_source(attributes: str, dbc_id: int, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    dbc = load(f"BO_ {dbc_id} A: 8 X\n{attributes.format(dbc_id)}")
    assert dbc.findings == ()
    assert dbc.messages[0].j1939 is expected


def test_what_cantools_still_refuses_is_found_by_halving() -> None:
    """A frame format that the enumeration does not have: no check of ours knows it, cantools stumbles over it."""
    text = "".join(f'BO_ {n} M{n}: 8 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\n' for n in range(20))
    text += 'BA_DEF_ BO_ "VFrameFormat" ENUM "A","B";\nBA_ "VFrameFormat" BO_ 7 99;\nBA_ "VFrameFormat" BO_ 3 1;\n'
    dbc = load(text)
    assert len(dbc.messages) == len(names(dbc)) == 20
    assert "M7" in only(dbc).text
    assert only(dbc).severity == "warning"


def mutated(rng: Random, text: str) -> str:
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(text))
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + chr(rng.randrange(1, 300)) + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 30) :]
        elif kind == 2:
            text = (
                text[:at]
                + rng.choice(['"', ";", ":", "99999999999", " m1 ", "M", "\n", "0-4294967295", "1e999"])
                + text[at:]
            )
        elif kind == 3:
            lines = text.split("\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            text = "\n".join(lines)
        else:
            text = text[: max(at, 1)]
        text = text or " "
    return text


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_damaged_file_never_raises_and_what_is_left_decodes(seed: int) -> None:
    rng = dice(seed)
    dbc = load(mutated(rng, rng.choice([GOOD, random_dbc(seed % 500)])))
    for message in dbc.messages:
        codec = MessageCodec(message)
        for length in (message.length, 64, 0):
            codec.decode(rng.randbytes(length))
    FrameDecoder(dbc.messages)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000))
def test_bytes_of_any_kind_never_raise(data: bytes) -> None:
    dbc = load_dbc(data, "noise.dbc")
    assert dbc.messages or any(finding.severity == "error" for finding in dbc.findings)


def garbage(rng: Random, lines: int) -> str:
    keywords = ["BO_ ", " SG_ ", "CM_ ", 'BA_ "', "VAL_ ", "EV_ ", "", "xx "]
    return "\n".join(rng.choice(keywords) + "".join(rng.choices('abc 123 ":|@;', k=40)) for _ in range(lines))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(garbage(dice(1), 20_000), id="lines of nothing"),
        pytest.param("SG_ a" + " " * 200_000, id="blanks"),
        pytest.param('CM_ "' * 20_000, id="open quotes"),
        pytest.param("BO_ 1 A: 8 X\n" + ' SG_ s : 0|8@1+ (1,0) [0|0] "" X\n' * 20_000, id="one name"),
        pytest.param('BO_ 1 A: 8 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\n' * 10_000, id="one id"),
        pytest.param(
            "BO_ 1 A: 8 X\n" + "".join(f' SG_ s{i} m{i}M : 0|8@1+ (1,0) [0|0] "" X\n' for i in range(3000)),
            id="multiplexers",
        ),
    ],
)
def test_the_effort_is_bounded_and_so_are_the_findings(text: str) -> None:
    dbc = load(text)
    assert 0 < len(dbc.findings) <= MAX_FINDINGS + 1


def test_a_message_that_is_no_message_keeps_its_place_free() -> None:
    text = 'BO_ 3221225472 VECTOR__INDEPENDENT_SIG_MSG: 0 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\n'
    assert load(text + GOOD.split("BU_:", maxsplit=1)[0]) == Dbc("test.dbc", (), ())
    assert isinstance(load(text + "BO_ 1 A: 0 X\n").messages[0], MessageDef)
