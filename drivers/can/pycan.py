"""Every CAN interface that python-can knows, as a source of frames: a reader thread and a bounded hand-over.

Imported only for wires that need it: python-can takes 18 MB.

Rules of this file:

1. The thread owns the bus from opening to shutting down: many of the vendors' libraries want that, and opening a serial
   adapter sleeps. It ends by itself when asked to stop, when the bus fails, and when opening failed.
2. python-can measures ``recv`` timeouts in wall-clock time, so a clock that is set back while it waits can hold it for
   years. Waits are short, and ``close`` shuts the bus from outside when the thread does not come back in time.
3. One exception in ``recv`` may be one bad packet (``udp_multicast`` raises on garbage); ``MAX_ERRORS`` in a row,
   without a frame between them, mean that the adapter is gone.
4. Frames are stamped by the Clock on arrival: what the interfaces call a time stamp counts from anywhere.
"""

import asyncio
import logging
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from agent.core.clock import Clock
from agent.core.errors import DeviceError, Unavailable, Unsupported
from drivers.codec.frames import EFF_FLAG, ERR_FLAG, FD_BYTES, MAX_DATA, RTR_FLAG, Frames
from drivers.lean import without_asammdf

with without_asammdf():
    import can

#: Frames that wait for the loop at most; more are dropped and counted as ``overflow``.
MAX_WAITING = 32_768
#: Failures of ``recv`` in a row that mean "gone".
MAX_ERRORS = 10
#: How long the thread waits for a frame before it looks whether it should stop.
POLL_S = 0.1
#: How long ``close`` waits for the thread before it shuts the bus itself.
PATIENCE_S = 0.5
#: Frames that the thread gathers at most before it hands them over.
CHUNK = 256

_HEAD = struct.Struct("=IBBBB")
_PAD = bytes(MAX_DATA)


class PycanSource:
    """One bus of python-can. ``options`` are its constructor's arguments beside interface and channel."""

    def __init__(self, interface: str, channel: str, clock: Clock, options: Mapping[str, object]) -> None:
        self.name = f"{interface}:{channel}"
        self.counts: Counter[str] = Counter()
        self.queue_frames = MAX_WAITING
        self._interface = interface
        self._channel = channel
        self._clock = clock
        self._options = dict(options)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._bus: can.BusABC | None = None
        self._thread: asyncio.Future[None] | None = None
        self._waiting = bytearray()
        self._times_us: list[int] = []
        self._lost: Counter[str] = Counter()
        self._armed = False
        self._wake: Callable[[], object] = self._stop.is_set

    async def open(self, wake: Callable[[], None]) -> None:
        """Open in a thread of its own and start reading. Raises ``Unavailable`` or ``Unsupported``."""
        loop = asyncio.get_running_loop()
        self._wake = wake
        self._stop = threading.Event()
        self._forget()
        opened: asyncio.Future[None] = loop.create_future()
        executor = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        try:
            self._thread = loop.run_in_executor(executor, self._serve, loop, opened, self._stop)
        finally:
            executor.shutdown(wait=False)  # the thread ends with its one task
        await asyncio.wait({opened, self._thread}, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():  # an adapter that opened and failed at once has its frames read first, by ``drain``
            self._raise_end()
        self._thread.add_done_callback(lambda _: wake())

    def arm(self) -> None:
        """Ask to be woken."""
        with self._lock:
            self._armed = not self._times_us
        if not self._armed or (self._thread is not None and self._thread.done()):
            self._wake()

    def drain(self) -> Frames:
        """All frames that wait. Raises ``Unavailable`` when the adapter is gone and everything before that is read."""
        with self._lock:
            raw, times_us = self._waiting, self._times_us
            self._waiting, self._times_us = bytearray(), []
            if self._lost:
                self.counts.update(self._lost)
                self._lost.clear()
        if not times_us and (self._thread is None or self._thread.done()):
            self._raise_end()
        rows = np.frombuffer(raw, dtype=np.uint8).reshape(len(times_us), FD_BYTES)
        return Frames(rows, np.array(times_us, dtype=np.int64))

    async def close(self) -> None:
        """End the thread, which shuts the bus down; also after a failed open, or twice."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        await asyncio.wait({thread}, timeout=PATIENCE_S)
        if not thread.done() and self._bus is not None:
            self._bus.shutdown()
            await asyncio.wait({thread}, timeout=PATIENCE_S)
        if thread.done() and not thread.cancelled():
            thread.exception()  # it was raised by drain, or nobody is left to hear it
        self._forget()

    def _raise_end(self) -> None:
        """Raise what ended the thread."""
        if self._thread is not None and self._thread.done():
            self._thread.result()
        raise Unavailable(f"read {self.name}", "the bus is closed")

    def _forget(self) -> None:
        with self._lock:
            self._waiting, self._times_us, self._armed = bytearray(), [], False

    # From here on: on the thread.

    def _serve(self, loop: asyncio.AbstractEventLoop, opened: "asyncio.Future[None]", stop: threading.Event) -> None:
        bus = self._open_bus()
        self._bus = bus
        try:
            _call(loop, _done, opened)
            self._read(bus, loop, stop)
        finally:
            self._bus = None
            bus.shutdown()

    def _open_bus(self) -> can.BusABC:
        op = f"open {self.name}"
        if self._interface not in can.VALID_INTERFACES:
            known = ", ".join(sorted(can.VALID_INTERFACES))
            raise Unsupported(op, f"there is no CAN interface {self._interface!r}", f"write one of: {known}")
        make: Callable[..., can.BusABC] = can.Bus
        # Of a bus that could not be opened python-can complains, at each try, that it was not shut down.
        logging.getLogger("can.bus").setLevel(logging.ERROR)
        try:
            bus = make(interface=self._interface, channel=self._channel, ignore_config=True, **self._options)
        except NotImplementedError as error:  # CanInterfaceNotImplementedError is one
            raise Unsupported(op, str(error), "install what this interface needs, see python-can's manual") from error
        except (TypeError, ValueError, LookupError, AttributeError, struct.error) as error:  # what wrong options become
            raise Unsupported(op, str(error), "correct channel, bitrate or options of this device") from error
        except (can.CanError, OSError) as error:
            raise Unavailable(op, str(error), "is the adapter plugged in, and free?") from error
        return bus

    def _read(self, bus: can.BusABC, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        errors = 0
        while not stop.is_set():
            chunk, times_us, timeout_s = bytearray(), list[int](), POLL_S
            failure: DeviceError | None = None
            while len(times_us) < CHUNK:
                message, failure = self._receive(bus, timeout_s)
                if message is None:
                    break
                self._append(message, chunk)
                times_us.append(self._clock.now_us())
                timeout_s = 0
            if failure is not None:
                errors = 1 if times_us else errors + 1
            elif times_us:
                errors = 0
            self._hand_over(chunk, times_us, loop, failed=failure is not None)
            if failure is not None and (errors >= MAX_ERRORS or stop.is_set()):
                raise failure

    def _receive(self, bus: can.BusABC, timeout_s: float) -> tuple[can.Message | None, DeviceError | None]:
        try:
            return bus.recv(timeout_s), None
        except (can.CanError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            return None, Unavailable(f"read {self.name}", reason, "is the adapter plugged in?")

    def _append(self, message: can.Message, chunk: bytearray) -> None:
        frame_id = message.arbitration_id
        if message.is_error_frame:
            # Only SocketCAN tells error classes in the identifier; those frames never come this way.
            frame_id = ERR_FLAG
        else:
            frame_id |= EFF_FLAG if message.is_extended_id else 0
            frame_id |= RTR_FLAG if message.is_remote_frame else 0
        data = b"" if message.is_remote_frame or message.is_error_frame else bytes(message.data[:MAX_DATA])
        chunk += _HEAD.pack(frame_id, len(data), 0, 0, 0)
        chunk += data
        chunk += _PAD[len(data) :]

    def _hand_over(
        self, chunk: bytearray, times_us: list[int], loop: asyncio.AbstractEventLoop, *, failed: bool
    ) -> None:
        if not times_us and not failed:
            return
        with self._lock:
            room = max(0, MAX_WAITING - len(self._times_us))
            self._waiting += chunk[: room * FD_BYTES]
            self._times_us += times_us[:room]
            if len(times_us) > room:
                self._lost["overflow"] += len(times_us) - room
            if failed:
                self._lost["bad.receive"] += 1
            wake, self._armed = self._armed, False
        if wake:
            _call(loop, self._wake)


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Call on the loop; a loop that was closed meanwhile has nobody who waits."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
