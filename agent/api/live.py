"""``/api/live``: server-sent events (WHATWG HTML, section 9.2) with a snapshot first and the changes after it.

Rules of this file:

1. A client is told what its signals are now, not each step on the way: what changed within ``MIN_GAP_S`` is one event.
   So a bus with thousands of frames a second costs a client no more than a slow one does.
2. A client that falls behind loses nothing that counts: after drops it gets a fresh snapshot, and also when the
   configuration gave other signals.
3. Streams are few, end at once when the gateway stops, and send a ``beat`` when nothing changes, so that a proxy does
   not cut the line, a client that is gone is noticed, and a client notices a line that is dead.
4. ``news`` says that the ledger has more events (alarms, switches, sessions), at most each ``NEWS_S``: what they did is
   asked for by those who show it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

import numpy as np

from agent.api.models import value_fields
from agent.api.times import iso
from agent.api.view import GatewayView
from agent.core.clock import Clock
from agent.core.model import Signal
from agent.pipeline.hub import Subscription

MAX_STREAMS = 16
MIN_GAP_S = 0.2
HEARTBEAT_S = 15.0
NEWS_S = 1.0
RETRY_MS = 2000


class LiveStreams:
    """All open streams of one server. ``newest``: the number of the ledger's newest event; must return at once."""

    def __init__(self, view: GatewayView, clock: Clock, newest: Callable[[], int] = lambda: 0) -> None:
        self._view = view
        self._newest = newest
        self._clock = clock
        self._open: set[Subscription] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether another stream would be one too many, or the gateway is stopping."""
        return self._closed or len(self._open) >= MAX_STREAMS

    def close(self) -> None:
        """End all streams; there will be no more."""
        self._closed = True
        for subscription in list(self._open):
            subscription.close()

    async def stream(self, device: str | None, still: Callable[[], bool] = lambda: True) -> AsyncGenerator[str, None]:
        """The events for one client: of one device, or of all. Close it when the client is gone.

        It ends with the first event for which ``still`` says that the client may not read any more.
        """
        with self._view.subscribe() as subscription:
            self._open.add(subscription)
            try:
                async with aclosing(self._events(subscription, device)) as events:
                    async for event in events:
                        if not still():
                            return
                        yield event
            finally:
                self._open.discard(subscription)

    async def _events(self, subscription: Subscription, device: str | None) -> AsyncGenerator[str, None]:
        catalogue, dropped = self._view.signals(), subscription.dropped
        signals = _of_device(catalogue, device)
        newest, looked_s = self._newest(), self._clock.monotonic_s()
        said_s = looked_s
        yield f"retry: {RETRY_MS}\n" + self._event("snapshot", signals.values())
        while True:
            heard = await self._wait(subscription)
            if subscription.closed:
                return
            now_s = self._clock.monotonic_s()
            if now_s - looked_s >= NEWS_S:
                looked_s = now_s
                if newest != (newest := self._newest()):
                    said_s = now_s
                    yield _sse("news", {"newest": newest})
            if now_s - said_s >= HEARTBEAT_S:
                said_s = now_s
                yield _sse("beat", {"time": iso(self._clock.now_us())})
            if not heard:
                continue
            batches = subscription.take()
            if subscription.dropped != dropped or self._view.signals() is not catalogue:
                catalogue, dropped = self._view.signals(), subscription.dropped
                signals = _of_device(catalogue, device)
                said_s = now_s
                yield self._event("snapshot", signals.values())
            else:
                ids = np.unique(np.concatenate([np.asarray(batch.ids, dtype=np.int32) for batch in batches])).tolist()
                if changed := [signals[number] for number in ids if number in signals]:
                    said_s = now_s
                    yield self._event("change", changed)
            await self._clock.sleep_s(MIN_GAP_S)

    async def _wait(self, subscription: Subscription) -> bool:
        """Wait for batches, until the ledger is to be looked at again; whether some came."""
        waits = [
            asyncio.ensure_future(subscription.wait()),
            asyncio.ensure_future(self._clock.sleep_s(NEWS_S)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[0].done()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _event(self, kind: str, signals: Iterable[Signal]) -> str:
        values = [value_fields(latest) for latest in self._view.latest(signals)]
        return _sse(kind, {"time": iso(self._clock.now_us()), "values": values})


def _sse(kind: str, data: object) -> str:
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False, ensure_ascii=False)}\n\n"


def _of_device(signals: Iterable[Signal], device: str | None) -> dict[int, Signal]:
    return {signal.id: signal for signal in signals if device is None or signal.device == device}
