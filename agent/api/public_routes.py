"""What everybody may read, before set-up too: whom to tell of weak spots (RFC 9116), and who signs our certificate."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import HTTPException
from starlette.responses import PlainTextResponse, Response

from agent.api.access import Routes
from agent.core.clock import Clock

#: So long may who has read it rely on it (RFC 9116, 2.5.5: less than a year).
EXPIRES_DAYS = 90
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Published:
    """``contact`` is a URI, empty for nobody; ``authority`` gives PEM, empty where there is none of ours."""

    contact: str = ""
    authority: Callable[[], str] = str
    #: Browsers are told to come by TLS only: with the site's own certificate, which they trust without being asked.
    always_tls: bool = False


class PemResponse(Response):
    """A certificate, as browsers and phones take it to be trusted."""

    media_type = "application/x-x509-ca-cert"


def add_public_routes(routes: Routes, clock: Clock, published: Published) -> None:
    """Add the routes."""
    one = _PublicRoutes(clock, published)
    routes.add(
        "GET",
        "/.well-known/security.txt",
        one.security,
        None,
        summary="Whom to tell of weak spots (RFC 9116)",
        response_class=PlainTextResponse,
        tags=["system"],
    )
    routes.add(
        "GET",
        "/api/system/authority.pem",
        one.authority,
        None,
        summary="The authority of this gateway's own TLS certificate, to be trusted",
        response_class=PemResponse,
        tags=["system"],
    )


class _PublicRoutes:
    def __init__(self, clock: Clock, published: Published) -> None:
        self._clock = clock
        self._published = published

    async def security(self) -> Response:
        """Answer with ``api.security_contact`` of the configuration; 404 where nobody is named there."""
        if not self._published.contact:
            raise HTTPException(HTTPStatus.NOT_FOUND, "the site names nobody: api.security_contact does")
        # At the end of a day, so that its content changes once a day only.
        end_us = (self._clock.now_us() // _DAY_US + EXPIRES_DAYS) * _DAY_US
        expires = dt.datetime.fromtimestamp(end_us // 1_000_000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"Contact: {self._published.contact}\nExpires: {expires}\nPreferred-Languages: en, es\n"
        return PlainTextResponse(text)

    async def authority(self) -> Response:
        """Answer with a certificate in PEM; compare its fingerprint with the log. 404: there is none of our own."""
        pem = self._published.authority()
        if not pem:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this gateway shows no certificate that it made itself")
        return PemResponse(pem, headers={"content-disposition": 'attachment; filename="enlace-authority.pem"'})
