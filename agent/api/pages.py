"""The pages for people: the dashboard at ``/``, the API's description at ``/docs``. They load nothing from outside.

Scripts and styles are files of their own, because the content security policy forbids inline ones. The dashboard is
built into ``agent/web/dist`` (agent/web/build.py), where each file stands compressed as well. A name with a hash of the
content in it may be kept by the browser for ever; the page itself is asked for each time.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
DIST = Path(__file__).parents[1] / "web" / "dist"

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
#: What a browser says that it takes, the best first, and how such a file is named.
_CODINGS = {"br": ".br", "gzip": ".gz"}
_FOR_EVER = "public, max-age=31536000, immutable"
_NOT_BUILT = "The dashboard is not built: `make web`, or install a wheel. The API is at /openapi.json.\n"


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is served. ``codings``: the same compressed."""

    content: bytes
    media_type: str
    cache: str = "no-cache"
    codings: Mapping[str, bytes] | None = None


def router() -> APIRouter:
    """The pages and what they load, outside of the OpenAPI description. No other file can be asked for."""
    result = APIRouter(include_in_schema=False)
    for path, page in pages().items():
        result.add_api_route(path, partial(_serve, page), methods=["GET"])
    return result


@cache
def pages() -> Mapping[str, Page]:
    """All of them by their address: some hundred kilobytes, kept in memory, so that none costs a thread or the disk."""
    found = {f"/static/{path.name}": _read(path) for path in sorted(STATIC.iterdir()) if path.suffix in _TYPES}
    found |= {f"/static/{path.name}": _read(path) for path in sorted(DIST.glob("*.*")) if path.suffix in _TYPES}
    found["/docs"] = found.pop("/static/docs.html")
    front = found.pop("/static/index.html", Page(_NOT_BUILT.encode(), "text/plain"))
    return {"/": front} | found


def front_page() -> Callable[[Request], Awaitable[Response]]:
    """Who gives browsers the page at ``/``; programs get something else there."""
    return partial(_serve, pages()["/"])


def _read(path: Path) -> Page:
    codings = {
        coding: compressed.read_bytes()
        for coding, suffix in _CODINGS.items()
        if (compressed := path.with_name(path.name + suffix)).exists()
    }
    hashed = path.parent == DIST and "-" in path.stem
    return Page(path.read_bytes(), _TYPES[path.suffix], _FOR_EVER if hashed else "no-cache", codings)


async def _serve(page: Page, request: Request) -> Response:
    headers = {"cache-control": page.cache}
    if not page.codings:
        return Response(page.content, media_type=page.media_type, headers=headers)
    headers["vary"] = "accept-encoding"
    taken = {one.partition(";")[0].strip() for one in request.headers.get("accept-encoding", "").split(",")}
    for coding, content in page.codings.items():
        if coding in taken:
            headers["content-encoding"] = coding
            return Response(content, media_type=page.media_type, headers=headers)
    return Response(page.content, media_type=page.media_type, headers=headers)
