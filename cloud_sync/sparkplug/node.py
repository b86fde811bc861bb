"""The site as a Sparkplug B edge node: what lasts beyond a connection. One connection is ``talk.py``.

Rules of this file (Eclipse Sparkplug 3.0; the names in brackets are its clauses without ``tck-id-``):

1. ``bdSeq`` goes up with each CONNECT (payloads-nbirth-bdseq-inc); the will has it, and so has the NBIRTH of the same
   connection. It is on disk before an NBIRTH carries it, so that after a restart no other number is taken for it.
2. A metric has its plain name for the newest meaning of the name. A former meaning, which only old records still have,
   gets its number behind the name. A meaning that begins to be used again takes the name with its first live value.
3. The newest word of the primary host counts, by its own time stamps (message-flow-edge-node-birth-publish-phid-wait).
4. The broker has the session start clean (principles-persistence-clean-session-50 and -311): ``UplinkSettings.link``.
"""

import contextlib
from collections.abc import Mapping, Sequence

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Signal
from agent.core.ports import Latest, LatestView, Notebook, Outbox
from cloud_sync.downlink import Conversation
from cloud_sync.lanes import Stream
from cloud_sync.patience import Patience
from cloud_sync.settings import UplinkSettings, Will
from cloud_sync.sparkplug.payload import DataType, Metric, Payload, encode_payload, topic
from cloud_sync.sparkplug.read import HostState
from cloud_sync.sparkplug.talk import Counts, Talk

_NOTE = ("uplink", "sparkplug")
_SPAN = 256


class SparkplugNode:
    """One site. ``own_device`` is the device that the gateway itself is: its signals are the node's own metrics."""

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        latest: LatestView,
        clock: Clock,
        notes: Notebook,
        own_device: str = "",
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.own_device = own_device
        self.signals: Mapping[int, Signal] = {}
        self.counts = Counts()
        self.bd_seq = _SPAN - 1
        self._outbox = outbox
        self._latest = latest
        self._notes = notes
        self._patience = Patience(clock)
        self._version = -1
        self._current: dict[tuple[str, str], int] = {}
        self._host: HostState | None = None
        note = notes.note(*_NOTE) or {}
        persisted = note.get("bdseq")
        if isinstance(persisted, int):
            self.bd_seq = persisted % _SPAN

    def topic(self, kind: str, device: str = "") -> str:
        """A topic of this node."""
        return topic(self.settings.sparkplug_group or self.settings.root, kind, self.settings.site, device)

    def will(self) -> Will:
        """The NDEATH of the connection that is about to be opened. Called in the connection's thread."""
        self.bd_seq = (self.bd_seq + 1) % _SPAN
        return Will(self.topic("NDEATH"), self.death(), retain=False)

    def death(self) -> bytes:
        """The NDEATH of this connection; it has no sequence number, and no time that would mean anything."""
        return encode_payload(Payload(None, None, [Metric("bdSeq", datatype=DataType.INT64, value=self.bd_seq)]))

    def talk(self, session: Conversation, stream: Stream) -> Talk:
        """One connection."""
        return Talk(self, session, stream)

    def counters(self) -> Mapping[str, int]:
        """For ``/metrics``."""
        return self.counts.as_mapping()

    # What one connection asks.

    async def remember(self) -> None:
        """Have ``bdSeq`` on disk. A store that can't now leaves it to the next connection: data matters more."""
        with contextlib.suppress(StoreError):
            await self._notes.write(*_NOTE, {"bdseq": self.bd_seq})

    async def learn(self) -> bool:
        """Read the catalogue anew when it has changed; whether a signal that was known has changed."""
        version, signals = await self._patience.read(self._outbox.catalog)
        if version <= self._version:  # two reads may come back in the wrong order
            return False
        former, self.signals = self.signals, {signal.id: signal for signal in signals}
        self._version = version
        for entry in sorted(self._latest.latest(signals), key=_age_and_number):
            name = entry.signal.device, entry.signal.name
            if entry.signal.id not in former or name not in self._current:
                self._current[name] = entry.signal.id
        return any(self.signals[number] != signal for number, signal in former.items())

    def is_current(self, number: int) -> bool:
        """Whether this signal has the newest meaning of its name."""
        signal = self.signals[number]
        return self._current[signal.device, signal.name] == number

    def make_current(self, number: int) -> None:
        """This signal has a live value: its meaning is the newest one of its name."""
        signal = self.signals[number]
        self._current[signal.device, signal.name] = number

    def newest(self) -> Mapping[str, Sequence[Latest]]:
        """The newest values of all signals, by device."""
        found: dict[str, list[Latest]] = {}
        for entry in self._latest.latest(self.signals.values()):
            found.setdefault(entry.signal.device, []).append(entry)
        return found

    def host_says(self, state: HostState) -> bool | None:
        """Whether the primary host is there; None when this word is older than the last one."""
        if self._host is not None and state.timestamp_ms < self._host.timestamp_ms:
            return None
        self._host = state
        return state.online


def _age_and_number(entry: Latest) -> tuple[float, int]:
    """Sorts what was read most recently to the end; of those that never were, the highest number."""
    return (float("-inf") if entry.age_s is None else -entry.age_s, entry.signal.id)
