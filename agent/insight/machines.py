"""What stands on the site: the configured devices by themselves, what people say of them, and machines without a wire.

Rules of this file:

1. A machine is the device of its code, or a note of its code, or both: what a person says of a device goes before what
   the device says. A device that is taken out of the configuration leaves its note behind, where there is one.
2. Each change is one commit with its ``machine.*`` event, which says who, and what it was and is.
3. What devices say of themselves (``device.identity``, ``charger.booted``) is heard at once and written with the next
   ``keep``: one that is lost by a kill is said again when the device connects again.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Event
from agent.core.ports import Notebook

NOTE = "machine"
SAID = "machine_said"
MAX_MACHINES = 5000
Status = Literal["active", "inactive", "maintenance", "retired"]
STATUSES: tuple[Status, ...] = ("active", "inactive", "maintenance", "retired")
CODE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
#: Words that stand in place of a code in the API's paths.
RESERVED = frozenset({"summary"})

_IDENTITY = frozenset({"device.identity", "charger.booted"})
#: What devices call it -> what we do.
_WORDS = {
    "vendor": "maker",
    "maker": "maker",
    "manufacturer": "maker",
    "model": "model",
    "serial": "serial",
    "meter": "serial",
    "firmware": "firmware",
}
_MAX_SAID = 200


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be said of a machine. As a note None means: as the device says; as an answer nothing is None."""

    name: str | None = None
    type: str | None = None  #: charger, meter, inverter, battery, other, or any word of a person
    location: str | None = None
    status: Status | None = None
    installed: str | None = None  #: ISO 8601 date
    maker: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    notes: str | None = None


FACTS = tuple(one.name for one in fields(Facts))


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine. ``device``: it is one of the configuration's; ``noted``: a person added it or said something of it."""

    code: str
    name: str
    type: str = "other"
    location: str = ""
    status: Status = "active"
    installed: str | None = None
    maker: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    notes: str = ""
    device: bool = False
    noted: bool = False

    @property
    def text(self) -> str:
        """What a search looks at."""
        words = self.code, self.name, self.type, self.location, self.maker, self.model, self.serial, self.notes
        return "\n".join(words).casefold()


@dataclass(slots=True)
class MachineBook:
    """All machines. ``devices``: the facts of each configured device, by id, in the order of the configuration."""

    clock: Clock
    notebook: Notebook
    devices: Callable[[], Mapping[str, Facts]]
    _heard: dict[str, dict[str, str]] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def machines(self) -> list[Machine]:
        """The devices in the order of the configuration, then the others by their codes."""
        devices = self.devices()
        found = [self._machine(code, facts, self._note(code)) for code, facts in devices.items()]
        others = sorted(set(self.notebook.notes(NOTE)) - set(devices))
        return found + [self._machine(code, None, self._note(code)) for code in others]

    def machine(self, code: str) -> Machine | None:
        """One of them."""
        device, note = self.devices().get(code), self._note(code)
        return None if device is None and note is None else self._machine(code, device, note)

    async def create(self, code: str, facts: Facts, who: str) -> Machine:
        """Add a machine without a wire. Raises ``CommandRejected`` (its code is taken) and ``StoreError``."""
        op = f"add machine {code}"
        async with self._turn:
            known = self.machines()
            if not re.fullmatch(CODE, code) or code in RESERVED:
                raise CommandRejected(
                    op, Refusal.OUT_OF_RANGE, "a code has letters, digits, _ . - and is no route here"
                )
            if any(one.code.casefold() == code.casefold() for one in known):
                raise CommandRejected(op, Refusal.DUPLICATE, "there is a machine of this code already", "change it")
            if len(known) >= MAX_MACHINES:
                raise CommandRejected(op, Refusal.DUPLICATE, f"there are {MAX_MACHINES} machines already")
            await self._write("machine.created", code, facts, None, who)
        return self._known(code)

    async def change(self, code: str, edit: Callable[[Facts], Facts], who: str) -> Machine:
        """Say something else of a machine. Raises ``CommandRejected`` (``not_capable``: no such) and ``StoreError``."""
        async with self._turn:
            self._known(code)
            old = self._note(code)
            new = edit(old or Facts())
            if new != (old or Facts()):
                await self._write("machine.changed", code, new, old, who)
        return self._known(code)

    async def remove(self, code: str, who: str) -> None:
        """Take out a machine without a wire; of a device what was said of it. Raises as ``change`` does."""
        async with self._turn:
            self._known(code)
            old = self._note(code)
            if old is not None:
                await self._write("machine.removed", code, None, old, who)

    def hear(self, event: Event) -> None:
        """An event of the gateway; returns at once."""
        if event.kind not in _IDENTITY or event.subject not in self.devices():
            return
        said = {_WORDS[key]: str(value)[:_MAX_SAID] for key, value in event.data.items() if key in _WORDS and value}
        if said and said != self._said(event.subject):
            self._heard[event.subject] = said

    async def keep(self) -> None:
        """Write what devices have said of themselves. Raises ``StoreError``: it is tried again with the next call."""
        for device, said in list(self._heard.items()):
            await self.notebook.write(SAID, device, dict(said))
            if self._heard.get(device) == said:
                del self._heard[device]

    def _said(self, device: str) -> Mapping[str, str]:
        kept = self._heard.get(device) or self.notebook.note(SAID, device) or {}
        return {key: value for key, value in kept.items() if isinstance(value, str)}

    def _note(self, code: str) -> Facts | None:
        data = self.notebook.note(NOTE, code)
        return None if data is None else _facts(data)

    def _machine(self, code: str, device: Facts | None, note: Facts | None) -> Machine:
        said: Mapping[str, Any] = self._said(code) if device is not None else {}
        layers = [note or Facts(), Facts(**said), device or Facts()]
        found = {
            name: next((one for each in layers if (one := getattr(each, name)) is not None), None) for name in FACTS
        }
        known = {name: value for name, value in found.items() if value is not None}
        known["name"] = known.get("name") or code
        return Machine(code, **known, device=device is not None, noted=note is not None)

    def _known(self, code: str) -> Machine:
        machine = self.machine(code)
        if machine is None:
            raise CommandRejected(f"machine {code}", Refusal.NOT_CAPABLE, "there is no such machine")
        return machine

    async def _write(self, kind: str, code: str, new: Facts | None, old: Facts | None, who: str) -> None:
        data = None if new is None else _data(new)
        told: dict[str, object] = {"by": who, "old": _told(old), "new": _told(new)}
        await self.notebook.write(NOTE, code, data, [Event(kind, self.clock.now_us(), code, told)])


def _data(facts: Facts) -> dict[str, object]:
    return {name: value for name in FACTS if (value := getattr(facts, name)) is not None}


def _told(facts: Facts | None) -> dict[str, object] | None:
    return None if facts is None else _data(facts)


def _facts(data: Mapping[str, object]) -> Facts:
    """The facts of a note; what can't be read of it is not known."""
    texts: dict[str, Any] = {name: value for name in FACTS if isinstance(value := data.get(name), str)}
    if texts.get("status") not in STATUSES:
        texts.pop("status", None)
    return Facts(**texts)
