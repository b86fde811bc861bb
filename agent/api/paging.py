"""What lists have in common: pages, and the limits of what may be asked for."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import HTTPException, Path, Query

from agent.api.times import parse_time

MAX_PAGE_SIZE = 1000

_MAX_NAME = 200
_MAX_PAGE = 1_000_000

_Item = TypeVar("_Item")
_Port = TypeVar("_Port")

Page = Annotated[int, Query(ge=1, le=_MAX_PAGE, description="page number, from 1")]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="items on a page")]
Name = Annotated[str, Query(min_length=1, max_length=_MAX_NAME, description="full name or number of a signal")]
DeviceFilter = Annotated[str | None, Query(min_length=1, max_length=_MAX_NAME, description="only of this device")]
NameFilter = Annotated[str | None, Query(min_length=1, max_length=_MAX_NAME, description="part of the full name")]
IdFilter = Annotated[str | None, Query(min_length=1, max_length=_MAX_NAME, description="part of the id")]
DeviceId = Annotated[str, Path(min_length=1, max_length=_MAX_NAME)]
Time = Annotated[str | None, Query(max_length=40, description="ISO 8601 with an offset, or seconds since 1970")]


def page_of(items: Sequence[_Item], page: int, size: int) -> Sequence[_Item]:
    """One page of what is all in memory."""
    return items[(page - 1) * size : page * size]


def tells(part: str | None, *texts: str) -> bool:
    """Whether the part is in one of the texts, in capitals or not. No part is in all."""
    return part is None or any(part.casefold() in text.casefold() for text in texts)


def time_us(where: str, text: str) -> int:
    """µs since 1970 of a time in a query."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {error}") from error


def needed(port: _Port | None, what: str) -> _Port:
    """The port, when this gateway has it."""
    if port is None:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, f"this gateway runs without {what}")
    return port
