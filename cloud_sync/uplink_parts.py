"""What an uplink is put together with, and what it tells of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.core.ports import Latest, Notebook, StoredBlock
from cloud_sync.downlink import Conversation
from cloud_sync.lanes import Stream
from cloud_sync.link import Link
from cloud_sync.records import Record
from cloud_sync.settings import Will


class Talk(Conversation, Protocol):
    """A connection of which telemetry takes a way of its own (``cloud_sync.sparkplug.talk.Talk``)."""

    async def serve(self) -> None:
        """Run until cancelled, and say goodbye then, within a second. Raises ``Unavailable`` when it can't go on."""

    async def ready(self) -> None:
        """Wait until anything of it may leave."""

    async def begin(self) -> None:
        """Say what there is. What is committed from now on is live."""

    async def records(self, blocks: Sequence[StoredBlock]) -> Sequence[Record]:
        """Blocks as records; their messages are for ``publish`` of this connection."""


class Node(Protocol):
    """What takes the place of state, catalogue and telemetry's payload (``cloud_sync.sparkplug.node.SparkplugNode``).

    Lanes, cursor, events, commands and the central server's word stay with the uplink.
    """

    def will(self) -> Will:
        """What the broker publishes when this client vanishes; asked at each connection, before it is opened."""

    def talk(self, session: Conversation, stream: Stream) -> Talk:
        """One connection. ``stream`` is telemetry's."""

    def counters(self) -> Mapping[str, int]:
        """For ``/metrics``."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How far a stream is: sequence numbers, and counters since the start."""

    newest: int
    acked: int  #: all up to there is confirmed, or gone for good
    backlog: int  #: numbers that are committed and not yet confirmed
    set_aside: int  #: records
    draining: int = 0  #: numbers of the backlog that the present connection has not sent yet
    resent: int = 0  #: records that were sent again
    waiting_s: float = 0.0  #: for so long nothing was confirmed, while something waits


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """What the API and ``/metrics`` show."""

    broker: str
    connected: bool
    protocol: str
    last_error: str
    next_try_in_s: float | None
    connections: int
    failures: int
    published: int
    bytes_published: int
    streams: Mapping[str, StreamStatus]
    commands: Mapping[str, int]  #: counters; empty: none are taken
    acks: Mapping[str, int]  #: counters of the central server's acknowledgements
    by_word: bool  #: the central server confirms, not the broker
    central_silent_s: float | None  #: how long ago the central server was heard; None: not since the start
    central_refused: str  #: why the broker does not let the central server's word be heard; empty: it does
    node: Mapping[str, int]  #: counters of the node; empty: there is none
    duplicate: bool  #: another client seems to have our client id
    cert_file: Path | None  #: of the certificate that the broker is shown


@dataclass(frozen=True, slots=True)
class Parts:
    """What an uplink may have beside the store."""

    node: Node | None = None  #: speaks for the site instead of state, catalogue and telemetry
    link: Link[Conversation] | None = None  #: None: one to the broker of the settings
    latest: Callable[[], Sequence[Latest]] | None = None  #: the newest value of each signal; None: not told
    notes: Notebook | None = None  #: remembers that a central server confirms


NO_PARTS = Parts()
