"""The error taxonomy: the type says what to do, the text says what failed, where, and what to try.

A library's exceptions are translated into these at one seam in each driver. Broad ``except Exception`` stands in
three places only: the supervision (of parts and wires, ``part.py``, and of units on a polled wire, ``polling.py``), the
execution of a command, and the sections of a bundle for support (``doctor.py``). Return or log, never both.
"""

from enum import StrEnum


class AgentError(Exception):
    """Base of all errors that Enlace raises on purpose.

    ``op`` names the operation and its object (``open can0``), ``reason`` what went wrong, ``hint`` what to do about it.
    """

    def __init__(self, op: str, reason: str, hint: str = "") -> None:
        super().__init__(op, reason, hint)
        self.op = op
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.op}: {self.reason}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(AgentError):
    """The configuration can't be used. Start-up only: exit code 78, systemd does not restart on it."""


class DeviceError(AgentError):
    """A device or the wire to it."""


class Unavailable(DeviceError):
    """Not reachable now: retry with capped, jittered back-off, one log line per edge."""


class NoAnswer(Unavailable):
    """The wire stands, but this unit on it did not answer in time: the others on the wire are not concerned."""


class BadData(DeviceError):
    """The peer broke the protocol: count it, keep a sample of the bytes, stay connected."""


class Unsupported(DeviceError):
    """Permanent: this device stops, the site runs on."""


class Refusal(StrEnum):
    """Why a command was not done."""

    EXPIRED = "expired"
    DUPLICATE = "duplicate"
    OUT_OF_RANGE = "out_of_range"
    NOT_CAPABLE = "not_capable"
    INTERLOCKED = "interlocked"
    DEVICE_REFUSED = "device_refused"
    NOT_AUTHORIZED = "not_authorized"  #: a command from afar that nobody signed who may command


class CommandRejected(AgentError):
    """A command was refused; ``refusal`` says why in one word, ``reason`` in a sentence."""

    def __init__(self, op: str, refusal: Refusal, reason: str, hint: str = "") -> None:
        super().__init__(op, reason, hint)
        self.refusal = refusal


class StoreError(AgentError):
    """The store is full, corrupt or not writable: health turns red, control goes on from memory."""


class UpgradeError(AgentError):
    """A package was not installed: the version that was there goes on."""
