"""Which J1939 message a 29-bit identifier carries (SAE J1939-21, "Data link layer").

The identifier is priority (3 bits), EDP, DP, PDU format PF (8), PDU specific PS (8), source address SA (8).

1. PF < 240 (PDU1): PS is a destination address and no part of the PGN. PF >= 240 (PDU2): PS belongs to the PGN.
   The PGN is EDP, DP, PF and PS or 0.
2. A DBC message is matched by PGN when its identifier has 29 bits and the DBC says so (``VFrameFormat`` is ``J1939PG``,
   or ``ProtocolType`` is ``J1939`` and the file has no ``VFrameFormat``), or when its source address is 0xFE: that is
   the null address, which no device sends data from, and by custom means "any source".
3. A frame takes the first that fits: the message with exactly this identifier; the J1939 message with the same PGN and
   source address (another priority or destination); the J1939 message with the same PGN, where one with source
   address 0xFE goes before others and the file's order decides among equals.
"""

from collections.abc import Sequence

from drivers.codec.dbc_model import MessageDef

NULL_ADDRESS = 0xFE
FIRST_PDU2_FORMAT = 240


def pgn_of(frame_id: int) -> int:
    """The parameter group number (18 bits) of a 29-bit identifier."""
    pgn = frame_id >> 8 & 0x3FFFF
    return pgn if pgn >> 8 & 0xFF >= FIRST_PDU2_FORMAT else pgn & 0x3FF00


def has_null_address(frame_id: int) -> bool:
    """Whether the source address of a 29-bit identifier is the null address 0xFE."""
    return frame_id & 0xFF == NULL_ADDRESS


def by_pgn_and_source(messages: Sequence[MessageDef]) -> dict[int, int]:
    """PGN << 8 | source address -> index of the message, rule 3, second step."""
    found: dict[int, int] = {}
    for index, message in enumerate(messages):
        if message.j1939:
            found.setdefault(pgn_of(message.frame_id) << 8 | message.frame_id & 0xFF, index)
    return found


def by_pgn(messages: Sequence[MessageDef]) -> dict[int, int]:
    """PGN -> index of the message, rule 3, third step."""
    found: dict[int, int] = {}
    for null_address in (True, False):
        for index, message in enumerate(messages):
            if message.j1939 and has_null_address(message.frame_id) is null_address:
                found.setdefault(pgn_of(message.frame_id), index)
    return found
