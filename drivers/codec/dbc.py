"""DBC files, loaded tolerantly: every message that can be used works, and everything wrong is named and located."""

from drivers.codec.dbc_convert import REFUSALS, parse
from drivers.codec.dbc_model import Dbc, Finding, MessageDef, Number, Ranges, SignalDef

__all__ = ["Dbc", "Finding", "MessageDef", "Number", "Ranges", "SignalDef", "load_dbc"]


def load_dbc(data: bytes, name: str) -> Dbc:
    """The messages and findings of a DBC file; ``name`` is what findings call it. Never raises for any content."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    try:
        return Dbc(name, tuple(parse(text)))
    except REFUSALS as error:
        return Dbc(name, (), (Finding("error", name, 0, str(error)),))
