"""A channel through which people are told: its settings, its file of addresses, and what each of these is owed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.model import Event
from agent.core.ports import ChannelStatus
from cloud_sync.notify.news import News
from cloud_sync.notify.target import Target

#: Of one channel.
MAX_ADDRESSES = 32
_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """A channel as configured. ``severity`` is the mildest that is told; ``returns``: also that an alarm is over."""

    id: str
    url_file: Path
    severity: str = "warning"
    every_s: float = 60.0
    returns: bool = True


class Channel:
    """One channel: its settings, its file's state, and its addresses. Before the file was read there is one unknown."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.settings = settings
        self.targets: list[Target] = [Target("", 0)]
        self.fault = ""  #: why there are no addresses
        self.lost = 0  #: by addresses that are gone

    @property
    def ready(self) -> list[Target]:
        """The addresses that can be told."""
        return [one for one in self.targets if one.address]

    def wants(self, news: News, event: Event) -> bool:
        """Whether this channel is told of it."""
        named = event.data.get("notify")
        if isinstance(named, list | tuple):
            return self.settings.id in named
        return news.at_least(self.settings.severity)

    def take_addresses(self, addresses: Sequence[str]) -> None:
        """These are the file's addresses by now; empty: none can be told."""
        known = {one.address: one for one in self.targets}
        wanted = addresses or [""]
        gone = [one for one in self.targets if one.address not in wanted]
        self.targets = [
            known.get(address) or Target(address, number, gone[0] if gone else None)
            for number, address in enumerate(wanted, 1)
        ]
        for number, target in enumerate(self.targets, 1):
            target.number = number
        if all(one.address in known for one in self.targets):
            self.lost += sum(len(one.waiting) for one in gone)

    def status(self, now_s: float) -> ChannelStatus:
        """How it is at this monotonic time."""
        targets = self.targets
        due = [one.due_s(self.settings.every_s) for one in self.ready]
        errors = [f"{one.name}: {one.error}" for one in targets if one.error]
        return ChannelStatus(
            id=self.settings.id,
            addresses=len(self.ready),
            waiting=sum(one.owed for one in targets),
            sent=sum(one.sent for one in targets),
            failures=sum(one.failed for one in targets),
            dropped=self.lost + sum(one.waiting.dropped for one in targets),
            last_error="; ".join([self.fault] if self.fault else errors),
            last_sent_us=max((one.last_sent_us for one in targets if one.last_sent_us is not None), default=None),
            next_try_in_s=min((max(at_s - now_s, 0.0) for at_s in due if at_s is not None), default=None),
        )


def read_addresses(path: Path) -> tuple[list[str], str]:
    """The addresses of a file, one per line, without ``#`` lines; or why there are none. Never says what is in it."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        return [], f"{path}: {(error.strerror or 'can not be read').lower()}"
    except UnicodeDecodeError:
        return [], f"{path}: is no text in UTF-8"
    lines = [line.strip() for line in text.splitlines()]
    found = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not found:
        return [], f"{path}: holds no address"
    if len(found) > MAX_ADDRESSES:
        return [], f"{path}: holds more than {MAX_ADDRESSES} addresses"
    return found, ""
