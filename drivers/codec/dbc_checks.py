"""Doubts about a loaded message that cantools does not judge (or refuses without need): names and places of signals."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from drivers.codec.can_layout import bit_mask
from drivers.codec.dbc_document import Findings
from drivers.codec.dbc_model import MessageDef, Ranges, SignalDef

#: So many pairs of signals of one message are compared; a real message has fewer by far.
_MAX_COMPARISONS = 200_000


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, each later one of equals with ``_2``, ``_3``... behind it."""
    taken = set(names)
    counts: dict[str, int] = {}
    result = []
    for name in names:
        number = counts.get(name, 0) + 1
        unique = name
        if number > 1:
            while (unique := f"{name}_{number}") in taken:
                number += 1
            taken.add(unique)
        counts[name] = number
        result.append(unique)
    return result


def with_unique_signals(message: MessageDef, lines: Sequence[int], findings: Findings) -> MessageDef:
    """The message with each signal's name used once; ``lines`` are those of its signals."""
    names = unique_names([signal.name for signal in message.signals])
    signals = []
    for signal, name, line in zip(message.signals, names, lines, strict=True):
        if name != signal.name:
            text = f"signal {message.name}.{signal.name} is defined twice; this one is called {name!r}"
            findings.warning(line, text, "give each signal of a message its own name")
        signals.append(replace(signal, name=name))
    return replace(message, signals=tuple(signals))


def check_places(message: MessageDef, lines: Sequence[int], findings: Findings) -> None:
    """Report signals that reach outside of their message, and signals that share bits in one frame."""
    for signal, line in zip(message.signals, lines, strict=True):
        if signal.end_byte > message.length:
            text = (
                f"signal {message.name}.{signal.name} needs {signal.end_byte} bytes, the message has {message.length}"
            )
            hint = "correct the message's length or the signal's place; it is read from frames that are long enough"
            findings.warning(line, text, hint)
    _check_overlaps(message, lines, findings)


def _check_overlaps(message: MessageDef, lines: Sequence[int], findings: Findings) -> None:
    masks = [bit_mask(signal) for signal in message.signals]
    by_name = {signal.name: signal for signal in message.signals}
    conditions = [_conditions(signal, by_name) for signal in message.signals]
    together = 0
    comparisons = 0
    for i, mask in enumerate(masks):
        if mask & together:
            for j in range(i):
                comparisons += 1
                if mask & masks[j] and not _exclude_each_other(conditions[i], conditions[j]):
                    names = f"{message.signals[j].name} and {message.signals[i].name}"
                    text = f"signals {names} of message {message.name} overlap; both are read as they stand"
                    hint = f"correct the place of one of them; the other one is in line {lines[j]}"
                    findings.warning(lines[i], text, hint)
                    break
        if comparisons > _MAX_COMPARISONS:
            return
        together |= mask


def _conditions(signal: SignalDef, by_name: Mapping[str, SignalDef]) -> dict[str, Ranges]:
    """Which multiplexers must have which values for the signal to be sent."""
    result: dict[str, Ranges] = {}
    current: SignalDef | None = signal
    while current is not None and current.multiplexer is not None and current.multiplexer not in result:
        result[current.multiplexer] = current.mux_values
        current = by_name.get(current.multiplexer)
    return result


def _exclude_each_other(one: Mapping[str, Ranges], other: Mapping[str, Ranges]) -> bool:
    """Whether no frame can carry both."""
    return any(
        not any(low <= end and start <= high for low, high in one[name] for start, end in other[name])
        for name in one.keys() & other.keys()
    )
