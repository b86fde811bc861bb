"""Whether the multiplexing of a message makes sense, before cantools builds decoders for every state of it."""

from drivers.codec.dbc_document import Findings, MessageText, SignalText

#: States of the multiplexers of a message, beyond which it is a mistake and no message.
MAX_MUX_STATES = 1 << 15
MAX_MULTIPLEXERS = 64
MAX_MULTIPLEXER_BITS = 64


def multiplexing_is_usable(message: MessageText, findings: Findings) -> bool:
    """Whether the message is usable; doubtful dependences are reported."""
    for chooser in [signal for signal in message.signals if signal.marker.endswith("M")]:
        if chooser.is_float or chooser.length > MAX_MULTIPLEXER_BITS:
            _demote(message, chooser, findings)
    choosers = [signal for signal in message.signals if signal.marker.endswith("M")]
    for signal in [signal for signal in message.signals if signal.marker.startswith("m")]:
        others = [chooser for chooser in choosers if chooser is not signal]
        if not others or (len(choosers) > 1 and not signal.ranges):
            text = f"{message.name}.{signal.name} is multiplexed, but by no known multiplexer; read from every frame"
            findings.warning(signal.line, text, "mark the multiplexer with M; with several, add SG_MUL_VAL_ lines")
    if len(choosers) <= MAX_MULTIPLEXERS and _states(message, choosers) <= MAX_MUX_STATES:
        return True
    text = f"message {message.name!r} has {len(choosers)} multiplexers with too many states; left out"
    hint = f"correct its multiplexers: {MAX_MULTIPLEXERS} of them and {MAX_MUX_STATES} states are supported"
    findings.error(message.line, text, hint)
    return False


def _demote(message: MessageText, chooser: SignalText, findings: Findings) -> None:
    """Make a multiplexer that can't be one a plain signal, and leave out what depends on it."""
    alone = sum(signal.marker.endswith("M") for signal in message.signals) == 1
    chooser.marker = chooser.marker.removesuffix("M")
    names = []
    for signal in list(message.signals):
        listed = any(alias == chooser.alias for alias, _ in signal.ranges)
        if listed or (alone and signal.marker.startswith("m")):
            message.drop(signal)
            names.append(signal.name)
    text = f"multiplexer {message.name}.{chooser.name} is no whole number of up to {MAX_MULTIPLEXER_BITS} bits"
    left_out = f"; left out: {', '.join(names)}" if names else ""
    findings.error(chooser.line, text + left_out, "correct its type or length")


def _states(message: MessageText, choosers: list[SignalText]) -> int:
    """How many decoders cantools will build for the message: one for each value of each multiplexer in each place."""
    values = {chooser.alias: chooser.choices for chooser in choosers}
    nested: dict[str, list[tuple[str, int]]] = {chooser.alias: [] for chooser in choosers}
    lows: dict[str, set[int]] = {chooser.alias: set() for chooser in choosers}
    for signal in message.signals:
        if len(choosers) == 1 and signal.marker.startswith("m"):
            values[choosers[0].alias] += 1
        for alias, ranges in signal.ranges:
            lows[alias].update(low for low, _ in ranges)
            if signal.alias in nested:
                nested[alias].append((signal.alias, len(ranges)))
    total = 0
    waiting = [(chooser.alias, 1) for chooser in choosers if not chooser.ranges]
    while waiting and total <= MAX_MUX_STATES:
        alias, times = waiting.pop()
        total += times * (1 + values[alias] + len(lows[alias]))
        waiting += [(child, times * count) for child, count in nested[alias]]
    return total
