"""Who may call which route. Each says so where it is made, and is refused before its body is read.

Rules of this file:

1. A route without a role can't be made; ``None`` says that everybody may call it, before set-up too.
2. The order is: who sends it (401), is the gateway set up (403), may they (403), is the body JSON (415), is all of the
   query known (422). Only then does anything look at what was sent.
3. ``/metrics`` may be read from this machine itself without a token: a collector that runs here needs no secret.
"""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agent.api.auth import READING, Auth, Caller, not_set_up, on_this_machine
from agent.api.openapi import PUBLIC
from agent.api.users import Role

_ROLE = "x-role"
_LOCAL = "x-local"

LOGIN = "/api/auth/login"
#: Where a form may be sent: nothing is given there that a browser keeps by itself.
FORMS = frozenset({LOGIN, "/auth/login", "/auth/login/"})
FORM = "application/x-www-form-urlencoded"

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Routes:
    """Makes the routes of one application."""

    def __init__(self, auth: Auth) -> None:
        self.router = APIRouter(route_class=_guarded(auth))

    def add(
        self,
        method: str,
        path: str,
        handler: Callable[..., Any],
        role: Role | None,
        *,
        local: bool = False,
        openapi_extra: dict[str, Any] | None = None,
        **more: Any,  # noqa: ANN401 - FastAPI's own
    ) -> None:
        """Add a route. ``local``: also for this machine itself, without a token."""
        extra: dict[str, Any] = {_ROLE: role or PUBLIC, **(openapi_extra or {})}
        if role is not None:
            extra["security"] = [{"bearer": []}, {"cookie": []}]
        if local:
            extra[_LOCAL] = True
        self.router.add_api_route(path, handler, methods=[method], openapi_extra=extra, **more)


def _guarded(auth: Auth) -> type[APIRoute]:
    class GuardedRoute(APIRoute):
        """A route that looks at the caller first."""

        def get_route_handler(self) -> _Handler:
            handler = super().get_route_handler()
            said = (self.openapi_extra or {})[_ROLE]
            role = None if said == PUBLIC else Role(said)
            local = _LOCAL in (self.openapi_extra or {})
            asked = frozenset(field.alias for field in self.dependant.query_params)

            async def guarded(request: Request) -> Response:
                request.state.caller = _admit(auth, request, role, local=local)
                _check_body(request)
                _check_query(request, asked)
                return await handler(request)

            return guarded

    return GuardedRoute


def _admit(auth: Auth, request: Request, role: Role | None, *, local: bool) -> Caller | None:
    if role is None:
        return None
    if not auth.set_up:
        raise not_set_up()
    if local and "authorization" not in request.headers and on_this_machine(request):
        return None
    caller = auth.caller(request)
    if caller is None:
        raise HTTPException(
            HTTPStatus.UNAUTHORIZED,
            "log in first: POST /api/auth/login gives a token for the header Authorization: Bearer …",
            headers={"www-authenticate": "Bearer"},
        )
    if not caller.role.may(role):
        detail = f"this takes the role {role}; {caller.name} is {caller.role}"
        raise HTTPException(HTTPStatus.FORBIDDEN, detail)
    return caller


def _check_body(request: Request) -> None:
    """JSON only, for that is what no form of another page can send. Log-in looks itself."""
    if request.method in READING or request.headers.get("content-length", "0") == "0":
        return
    kind = media_type(request)
    if kind != "application/json" and not (request.url.path in FORMS and kind == FORM):
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, with Content-Type: application/json")


def _check_query(request: Request, asked: frozenset[str]) -> None:
    """A filter that is misspelt must not be taken for no filter, nor one of two for the other."""
    sent = [name for name, _ in request.query_params.multi_items()]
    wrong = [("unknown_query", name) for name in sorted({*sent} - asked)]
    wrong += [("repeated_query", name) for name in sorted(asked) if sent.count(name) > 1]
    if wrong:
        raise RequestValidationError([{"type": kind, "loc": ("query", name[:100])} for kind, name in wrong[:10]])


def media_type(request: Request) -> str:
    """What the body says to be, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _caller_of(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


#: The argument of a handler that wants to know who calls; for routes with a role.
CallerOf = Annotated[Caller, Depends(_caller_of)]
