"""The one seam to cantools: DBC text -> plain ``MessageDef`` values, exactly as cantools understands the text.

It is loaded when the first text is: a site without CAN needs none of it, nor python-can, which it brings.
"""

from collections.abc import Iterable
from decimal import DecimalException
from typing import TYPE_CHECKING

from bitstruct import Error as LayoutProblem  # type: ignore[import-untyped] # it ships no types
from textparser import Error as SyntaxProblem

from drivers.codec.can_j1939 import has_null_address
from drivers.codec.dbc_model import MessageDef, Ranges, SignalDef
from drivers.lean import without_asammdf

if TYPE_CHECKING:
    from cantools.database.can.internal_database import InternalDatabase
    from cantools.database.can.message import Message
    from cantools.database.can.signal import Signal

#: What ``parse`` raises for bad content: cantools' own errors as ``ValueError``, those of its parser and of bitstruct,
#: which it does not translate, and whatever a conversion or a look-up in its tables raises.
REFUSALS = (
    SyntaxProblem,
    LayoutProblem,
    DecimalException,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def parse(text: str) -> list[MessageDef]:
    """The messages of a DBC text in its order. Raises one of ``REFUSALS`` when cantools refuses the text."""
    with without_asammdf():
        from cantools.database.can.formats.dbc import load_string  # noqa: PLC0415 - see the head of this file
        from cantools.database.errors import Error as CantoolsError  # noqa: PLC0415
    try:
        database = load_string(text, strict=False, sort_signals=None)
    except CantoolsError as error:
        raise ValueError(str(error)) from error
    by_default = _protocol_is_j1939(database)
    return [_message(message, by_default=by_default) for message in database.messages]


def _protocol_is_j1939(database: "InternalDatabase") -> bool:
    """Whether the file as a whole says J1939 and leaves no word on single messages."""
    if database.dbc is None:
        return False
    protocol = database.dbc.attributes.get("ProtocolType") if database.dbc.attributes else None
    return (
        protocol is not None and protocol.value == "J1939" and "VFrameFormat" not in database.dbc.attribute_definitions
    )


def _message(message: "Message", *, by_default: bool) -> MessageDef:
    extended = message.is_extended_frame
    j1939 = message.protocol == "j1939" or by_default or has_null_address(message.frame_id)
    return MessageDef(
        frame_id=message.frame_id,
        extended=extended,
        name=message.name,
        length=message.length,
        signals=tuple(_signal(signal) for signal in message.signals),
        fd=message.is_fd,
        cycle_time_ms=round(message.cycle_time) if message.cycle_time and message.cycle_time > 0 else None,
        j1939=extended and j1939,
        comment=message.comment or "",
    )


def _signal(signal: "Signal") -> SignalDef:
    choices = {int(number): str(text) for number, text in (signal.conversion.choices or {}).items()}
    return SignalDef(
        name=signal.name,
        start=signal.start,
        length=signal.length,
        byte_order="big" if signal.byte_order == "big_endian" else "little",
        signed=signal.is_signed,
        is_float=signal.conversion.is_float,
        scale=signal.conversion.scale,
        offset=signal.conversion.offset,
        minimum=signal.minimum,
        maximum=signal.maximum,
        unit=signal.unit or "",
        choices=choices,
        comment=signal.comment or "",
        is_multiplexer=signal.is_multiplexer,
        multiplexer=signal.multiplexer_signal,
        mux_values=merged((value, value) for value in signal.multiplexer_ids or ()),
    )


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Inclusive ranges, sorted, those that touch or overlap put together."""
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        else:
            result.append((low, high))
    return tuple(result)
