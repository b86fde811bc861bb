"""What holds for every request before a route sees it: Host, size of the body, security headers.

Rules of this file:

1. Only names that this gateway goes by are answered: a page from elsewhere whose DNS name was turned to our address
   sends its own name as Host (DNS rebinding). An address in place of a name can't be turned.
2. No answer may be framed, sniffed, or load anything from outside. There is no CORS.
3. A body is bounded before it is read.
4. Who does not prove who he is may ask so often only.
5. One request begins in each turn of the event loop: chargers are answered and stations controlled in between, however
   many requests come at once.
"""

import asyncio
import ipaddress
import math
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.api.throttle import TooFastError

MAX_BODY_BYTES = 64 * 1024
#: Paths whose bodies may be longer: the batches of rows that clients post.
LONG_BODIES: Mapping[str, int] = MappingProxyType({"/api/telemetry": 8 << 20})
_LENGTH_DIGITS = 9  # more are too many anyway

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

#: A year, for this name alone; only with a certificate that browsers trust (RFC 6797, 8.4 and 11.3).
HSTS = "max-age=31536000"

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """ASGI middleware. ``hosts`` are the names beside those of the loopback that this gateway answers to.

    ``any_address``: it answers to every IP address as well, because it is reached from the network. ``admit`` raises
    ``TooFastError`` for who asks too often. ``hsts``: browsers shall come by TLS only.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str] = (),
        *,
        any_address: bool = False,
        admit: Callable[[Request], None] = lambda _: None,
        hsts: bool = False,
    ) -> None:
        self._app = app
        self._admit = admit
        self._headers = SECURITY_HEADERS | ({"strict-transport-security": HSTS} if hsts else {})
        self._turn = asyncio.Lock()
        self._any_address = any_address
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on and add the headers to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        async with self._turn:
            await asyncio.sleep(0)
        most = LONG_BODIES.get(scope["path"], MAX_BODY_BYTES)
        refusal = self._refusal(Headers(scope=scope), most) or self._too_fast(Request(scope))
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, headers: Headers, max_bytes: int) -> Response | None:
        name = headers.get("host", "").lower()
        host = host_name(name)
        if host not in self._hosts and not (self._any_address and is_address(host)):
            detail = f"this gateway does not answer as {name!r}: use its IP address, or one of its names"
            return _refuse(HTTPStatus.MISDIRECTED_REQUEST, detail)
        if "transfer-encoding" in headers:
            return _refuse(HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > _LENGTH_DIGITS or int(length) > max_bytes:
            return _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {max_bytes} bytes here")
        return None

    def _too_fast(self, request: Request) -> Response | None:
        try:
            self._admit(request)
        except TooFastError as error:
            return _refuse(HTTPStatus.TOO_MANY_REQUESTS, str(error), {"retry-after": str(math.ceil(error.retry_s))})
        return None


def host_name(host: str) -> str:
    """The name in a Host header, without its port: ``[::1]:8080`` gives ``[::1]``."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def is_address(host: str) -> bool:
    """Whether a name in a Host header is an IP address; one of version 6 stands in brackets there."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return (address.version == 6) == host.startswith("[")  # noqa: PLR2004 - the protocol's number


def _refuse(status: HTTPStatus, detail: str, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    # The body was not read: the connection can't be used again.
    return JSONResponse(body, status, headers={"connection": "close", **headers}, media_type="application/problem+json")
