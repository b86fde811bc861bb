"""Errors as RFC 9457 problem details, one shape for all of them."""

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

from agent.api import openapi
from agent.api.auth import DeniedError
from agent.api.guard import SECURITY_HEADERS
from agent.api.openapi import MEDIA_TYPE
from agent.api.passwords import BusyError, PasswordError
from agent.api.setup_view import DeviceThereError, FindingsError, NoDeviceError, OccupiedError
from agent.api.throttle import TooFastError
from agent.api.users import MalformedNameError, UserError
from agent.api.wrong_inputs import wrong_input
from agent.control.model import Result
from agent.core.errors import AgentError, ConfigError, Refusal

#: What an error of ours is answered with; all others are 503: the gateway can't do it now.
_STATUS: Mapping[type[AgentError], HTTPStatus] = {
    TooFastError: HTTPStatus.TOO_MANY_REQUESTS,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    UserError: HTTPStatus.CONFLICT,
    MalformedNameError: HTTPStatus.UNPROCESSABLE_ENTITY,
    PasswordError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConfigError: HTTPStatus.UNPROCESSABLE_ENTITY,
    FindingsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    DeviceThereError: HTTPStatus.CONFLICT,
    NoDeviceError: HTTPStatus.NOT_FOUND,
    OccupiedError: HTTPStatus.CONFLICT,
}
_BUSY_S = 5
#: Asking again can't help.
_NEVER = frozenset({Refusal.OUT_OF_RANGE, Refusal.NOT_CAPABLE})


class RejectedError(AgentError):
    """A command was refused."""

    def __init__(self, result: Result) -> None:
        super().__init__("command", result.reason)
        self.result = result


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: object) -> JSONResponse:
    """A problem document: ``type``, ``title``, ``status``, ``detail`` and any further members."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI, make_all: Callable[[], None]) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(AgentError, _agent)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _bug)
    openapi.install(app, make_all)


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail, headers = str(error.detail), error.headers
    if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "there is no such page: /docs lists all that there are"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not offered here"
        headers = {"allow": ", ".join(sorted(_offered(request)))}
    return problem(error.status_code, detail, headers=headers, instance=request.url.path)


def _offered(request: Request) -> set[str]:
    """The methods of a path, of all its routes: the router names those of the first one (RFC 9110, 15.5.6)."""
    routes = [one for one in request.app.router.routes if isinstance(one, Route)]
    here = [one for one in routes if one.matches(request.scope)[0] is not Match.NONE]
    found = {method for one in here for method in one.methods or ()}
    return found | {"HEAD"} if "GET" in found else found  # head.py answers it, and the routes do not know


async def _validation(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # The input itself is not repeated: it may be long, and some of it may be secret in later routes.
    errors = [_wrong(each) for each in error.errors()]
    detail = "; ".join(f"{each['where']}: {each['what']}" for each in errors)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, instance=request.url.path, errors=errors)


def _wrong(error: Mapping[str, Any]) -> dict[str, str]:
    """One wrong input; of a body with its key, as the findings of ``enlace check`` have it."""
    where = [str(part) for part in error["loc"]]
    key = {"key": ".".join(where[1:])} if where[0] == "body" and len(where) > 1 else {}
    return {"where": ".".join(where), "what": wrong_input(error), **key}


async def _agent(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, AgentError):
        raise error
    headers: dict[str, str] = {}
    members: dict[str, Any] = {"instance": request.url.path, "hint": error.hint}
    status = _STATUS.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE)
    if isinstance(error, TooFastError):
        headers["retry-after"] = str(math.ceil(error.retry_s))
    elif isinstance(error, FindingsError):
        members["errors"] = [
            {"where": one.where, "what": one.what, "hint": one.hint, "key": one.key} for one in error.findings
        ]
    elif isinstance(error, BusyError):
        headers["retry-after"] = str(_BUSY_S)
    elif isinstance(error, DeniedError):
        status = HTTPStatus(error.status)
        if status is HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return problem(status, error.reason, headers=headers, **members)
    elif isinstance(error, RejectedError):
        refusal = error.result.refusal
        status = HTTPStatus.UNPROCESSABLE_ENTITY if refusal in _NEVER else HTTPStatus.CONFLICT
        members |= {"refusal": refusal.value if refusal else "", "id": error.result.id}
        return problem(status, error.reason, **members)
    return problem(status, str(error), headers=headers, **members)


async def _gone(request: Request, _: Exception) -> JSONResponse:
    # Nobody reads it: its client left, or was cut, in the middle of the body. That is no bug of ours.
    return problem(HTTPStatus.BAD_REQUEST, "the body did not come to its end", instance=request.url.path)


async def _bug(request: Request, _: Exception) -> JSONResponse:
    # Starlette answers this outside of all middleware, logs nothing and raises the error on: the server logs it.
    detail = "this is a bug of Enlace: the log holds its traceback"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail, headers=SECURITY_HEADERS, instance=request.url.path)
