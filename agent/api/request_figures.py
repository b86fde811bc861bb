"""How many requests each route answered, with which status, and how long that took: for ``/metrics``."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.core.clock import Clock

#: Upper bounds of the histogram, in seconds.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
#: What is asked for outside of all routes; a path as it was sent would make a series for each guess of a stranger.
NO_ROUTE = "none"


class RequestFigures:
    """``answers`` by (method, route, status); ``durations`` by route: how many took at most each bound, and longer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.durations: dict[str, list[int]] = {}
        self.sums_s: defaultdict[str, float] = defaultdict(float)

    def measured(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware. A request lasts until its answer begins: a stream may go on for days."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began_s = self._clock.monotonic_s()

            async def send_measured(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._answered(scope, int(message["status"]), self._clock.monotonic_s() - began_s)
                await send(message)

            await app(scope, receive, send_measured)

        return call

    def _answered(self, scope: Mapping[str, object], status: int, took_s: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        # The methods that strangers make up are no series either.
        method = str(scope["method"]) if route != NO_ROUTE else NO_ROUTE
        self.answers[method, route, status] += 1
        self.durations.setdefault(route, [0] * (len(BOUNDS_S) + 1))[bisect_left(BOUNDS_S, took_s)] += 1
        self.sums_s[route] += took_s
