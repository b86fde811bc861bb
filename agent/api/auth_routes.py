"""``/api/auth`` and ``/api/users``: set-up, log-in, and who may do what."""

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from agent.api.access import FORM, LOGIN, CallerOf, Routes, media_type
from agent.api.answers import ActiveOut, ActivePage, MeOut, NewTokenOut, SetUpOut, TokensOut, UserOut, UserPage
from agent.api.auth import Auth, Granted, address_of, cookie_header, token_answer
from agent.api.bodies import Credentials, NewToken, NewUser, PasswordChange, Refresh, SetUp, UserChange
from agent.api.paging import IdFilter, Page, PageSize, page_of, tells
from agent.api.passwords import check_new
from agent.api.times import iso
from agent.api.users import Role, User
from agent.core.clock import Clock

_FIELDS = 20

RoleFilter = Annotated[Role | None, Query(description="only those with this role")]
UserPath = Annotated[str, Path(min_length=1, max_length=64)]

_LOGIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": Credentials.model_json_schema()} for kind in ("application/json", FORM)},
    }
}


def add_auth_routes(routes: Routes, auth: Auth, clock: Clock) -> None:
    """Add the routes."""
    one = _AuthRoutes(auth)
    tag: dict[str, Any] = {"tags": ["auth"]}
    routes.add("GET", "/api/auth/setup", one.state, None, summary="Whether the gateway is set up", **tag)
    routes.add(
        "POST", "/api/auth/setup", one.set_up, None, summary="Make the first admin", response_model=TokensOut, **tag
    )
    routes.add(
        "POST", LOGIN, one.log_in, None, summary="Log in", response_model=TokensOut, openapi_extra=_LOGIN_BODY, **tag
    )
    routes.add("POST", "/api/auth/refresh", one.refresh, None, summary="New tokens for a refresh token", **tag)
    routes.add("POST", "/api/auth/logout", one.log_out, Role.VIEWER, summary="End this log-in", status_code=204, **tag)
    routes.add("GET", "/api/auth/me", one.me, Role.VIEWER, summary="Who am I", **tag)
    routes.add(
        "POST",
        "/api/auth/password",
        one.change_own,
        Role.VIEWER,
        summary="Change one's password",
        response_model=TokensOut,
        **tag,
    )
    users = _UserRoutes(auth, clock)
    tag = {"tags": ["users"]}
    path = "/api/users/{name}"
    routes.add("GET", "/api/users", users.index, Role.ADMIN, summary="List users", **tag)
    routes.add("GET", "/api/users/active", users.active, Role.ADMIN, summary="Who is logged in now", **tag)
    routes.add("POST", "/api/users", users.add, Role.ADMIN, summary="Add a user", status_code=201, **tag)
    routes.add("PATCH", path, users.change, Role.ADMIN, summary="Change a user", **tag)
    routes.add("DELETE", path, users.remove, Role.ADMIN, summary="Take a user out", status_code=204, **tag)
    summary = "Make an API token for a machine"
    routes.add("POST", f"{path}/tokens", users.add_token, Role.ADMIN, summary=summary, status_code=201, **tag)
    token = f"{path}/tokens/{{label}}"
    routes.add("DELETE", token, users.remove_token, Role.ADMIN, summary="Take a token back", status_code=204, **tag)


class _AuthRoutes:
    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    async def state(self) -> SetUpOut:
        """Tell whether there is an admin; before that, nothing else answers."""
        return SetUpOut(needed=not self._auth.set_up)

    async def set_up(self, body: SetUp, request: Request) -> Response:
        """Make the first admin with the one-time code from the gateway's log; it is logged in at once."""
        address = address_of(request)
        granted = await self._auth.use_code(body.code, body.username, body.password, address, cookie=body.cookie)
        return _granted(request, granted)

    async def log_in(self, request: Request) -> Response:
        """Log in, by JSON or a form. Wrong guesses make the next ones wait: 429 with Retry-After."""
        body = await _credentials(request)
        granted = await self._auth.log_in(body.username, body.password, address_of(request), cookie=body.cookie)
        return _granted(request, granted)

    async def refresh(self, body: Refresh, request: Request) -> TokensOut:
        """Give new tokens. A refresh token is good once: a second use ends its log-in."""
        return TokensOut.model_validate(token_answer(await self._auth.refresh(body.refresh_token, address_of(request))))

    async def log_out(self, request: Request, caller: CallerOf) -> Response:
        """End the log-in whose token or cookie this request has."""
        await self._auth.log_out(caller)
        headers = {"set-cookie": cookie_header(request, "")} if caller.cookie else None
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)

    async def me(self, caller: CallerOf) -> MeOut:
        """Tell the caller's name and role."""
        return MeOut(username=caller.name, role=caller.role.value)

    async def change_own(self, body: PasswordChange, request: Request, caller: CallerOf) -> Response:
        """Change it; all log-ins and API tokens of the user end, and this answer is a new log-in."""
        return _granted(request, await self._auth.change_own(caller, body.old, body.new, address_of(request)))


class _UserRoutes:
    def __init__(self, auth: Auth, clock: Clock) -> None:
        self._auth = auth
        self._users = auth.users
        self._clock = clock

    async def index(
        self, role: RoleFilter = None, name: IdFilter = None, page: Page = 1, page_size: PageSize = 100
    ) -> UserPage:
        """List users by name, with the labels of their API tokens."""
        users = [one for one in self._users.all() if role in {None, one.role} and tells(name, one.name)]
        items = [UserOut.of(user) for user in page_of(users, page, page_size)]
        return UserPage(total=len(users), page=page, page_size=page_size, items=items)

    async def active(self, page: Page = 1, page_size: PageSize = 100) -> ActivePage:
        """List the open log-ins, the one used last first. API tokens are none."""
        now_us = self._clock.now_us()
        found = sorted(self._auth.open_logins(), key=lambda one: one.idle_s)
        items = [
            ActiveOut(
                username=one.user,
                role=self._known(one.user).role.value,
                kind="browser" if one.kind == "cookie" else "program",
                since=iso(one.since_us),
                last_seen=iso(now_us - round(one.idle_s * 1_000_000)),
            )
            for one in page_of(found, page, page_size)
        ]
        return ActivePage(total=len(found), page=page, page_size=page_size, items=items)

    async def add(self, body: NewUser, caller: CallerOf) -> UserOut:
        """Add a user. A password has at least ten characters and is not the name."""
        check_new(body.username, body.password)
        async with self._auth.passwords.turn():
            password = await self._auth.passwords.hash_in_thread(body.password)
        user = self._users.add(body.username, Role(body.role), password)
        self._auth.audit(caller.name, f"add user as {body.role}", user.name, "done")
        return UserOut.of(user)

    async def change(self, name: UserPath, body: UserChange, caller: CallerOf) -> UserOut:
        """Change a user's role or password. A new password ends all log-ins and API tokens of the user."""
        old = self._known(name).role.value
        if body.password is not None:
            check_new(name, body.password)
        if body.role is not None:
            self._users.set_role(name, Role(body.role))
            self._auth.audit(caller.name, f"make user {body.role}", name, "done", old=old, new=body.role)
        if body.password is not None:
            async with self._auth.passwords.turn():
                password = await self._auth.passwords.hash_in_thread(body.password)
            self._users.set_password(name, password)
            self._auth.audit(caller.name, "set password", name, "done")
        return UserOut.of(self._known(name))

    async def remove(self, name: UserPath, caller: CallerOf) -> Response:
        """Take a user out; all log-ins and API tokens of the user end. The last admin stays."""
        old = self._known(name).role.value
        self._users.remove(name)
        self._auth.audit(caller.name, "remove user", name, "done", old=old)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def add_token(self, name: UserPath, body: NewToken, caller: CallerOf) -> NewTokenOut:
        """Make a token with the user's role that does not expire. It is shown this once."""
        self._known(name)
        token = self._users.add_token(name, body.label, self._clock.now_us())
        self._auth.audit(caller.name, f"make token {body.label}", name, "done")
        return NewTokenOut(label=body.label, token=token)

    async def remove_token(self, name: UserPath, label: UserPath, caller: CallerOf) -> Response:
        """Take an API token back."""
        if all(one.label != label for one in self._known(name).tokens):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{name} has no token labelled {label!r}: /api/users lists them")
        self._users.remove_token(name, label)
        self._auth.audit(caller.name, f"take back token {label}", name, "done")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _known(self, name: str) -> User:
        user = self._users.get(name)
        if user is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no user {name!r}: /api/users lists them")
        return user


def _granted(request: Request, granted: Granted) -> Response:
    if granted.cookie:
        body = MeOut(username=granted.user.name, role=granted.user.role.value)
        return JSONResponse(body.model_dump(), headers={"set-cookie": cookie_header(request, granted.cookie)})
    return JSONResponse(token_answer(granted))


async def _credentials(request: Request) -> Credentials:
    """What was sent, as JSON or as a form (``cookie`` stands in JSON only)."""
    body = await request.body()
    try:
        if media_type(request) == FORM:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS))
            # Clients of RFC 6749 also send grant_type and the like.
            return Credentials.model_validate({name: form.get(name) for name in ("username", "password")})
        return Credentials.model_validate_json(body)
    except ValueError as error:  # pydantic's and Unicode's are among them
        detail = "send username and password, as JSON or as a form"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from error
