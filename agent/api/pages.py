"""The pages for people: live values at ``/``, the API's description at ``/docs``. They load nothing from outside.

Scripts and styles are files of their own, because the content security policy forbids inline ones.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"

_FILES = {
    "/": ("index.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/static/session.js": ("session.js", "text/javascript"),
    "/static/live.js": ("live.js", "text/javascript"),
    "/static/stations.js": ("stations.js", "text/javascript"),
    "/static/alarms.js": ("alarms.js", "text/javascript"),
    "/static/docs.js": ("docs.js", "text/javascript"),
    "/static/style.css": ("style.css", "text/css"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}


def router() -> APIRouter:
    """The pages and what they load, outside of the OpenAPI description. No other file can be asked for."""
    result = APIRouter(include_in_schema=False)
    for path, (name, media_type) in _FILES.items():
        # Some kilobytes in all: kept in memory, so that a page costs neither a thread nor the disk.
        content = (STATIC / name).read_bytes()
        result.add_api_route(path, partial(_serve, content, media_type), methods=["GET"])
    return result


def front_page() -> Callable[[], Awaitable[Response]]:
    """Who gives browsers the page at ``/``; programs get something else there."""
    name, media_type = _FILES["/"]
    return partial(_serve, (STATIC / name).read_bytes(), media_type)


async def _serve(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type)
