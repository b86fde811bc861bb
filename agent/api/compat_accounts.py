"""Log-in, registration and active users as three of the former systems have them."""

from typing import Annotated

from fastapi import HTTPException, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from agent.api.answers import ActivePage, UserOut
from agent.api.auth import DeniedError, address_of
from agent.api.bodies import NewUser, Password, RoleName, UserName
from agent.api.compat_base import FormerBody, Translator
from agent.api.models import Model
from agent.api.paging import MAX_PAGE_SIZE
from agent.api.users import Role

HOW = "send the token of an admin, or, before there is an admin, the one-time code from the gateway's log as `code`"


class Registration(FormerBody):
    """A user to make."""

    username: UserName = Field(examples=["luis"])
    password: Password = Field(examples=["a few words of his"])
    role: RoleName = Field("viewer", description="the first user is an admin, whatever stands here")
    code: Annotated[str, StringConstraints(max_length=64)] | None = Field(None, description="the one-time set-up code")


class RegisteredOut(Model):
    """A user that was made."""

    mensaje: str
    username: str
    role: RoleName


class ActiveUser(Model):
    """A user who is logged in."""

    username: str
    role: RoleName
    ultimo_acceso: str = Field(description="when he was seen last")


class ActiveUsers(Model):
    """Who is logged in."""

    total: int
    usuarios: list[ActiveUser]


class Accounts(Translator):
    """Their routes."""

    async def log_in(self, request: Request) -> Response:
        """Log in by a form (or JSON) with `username` and `password`.

        The access token is good for `expires_in` seconds; `refresh_token`, at `/api/auth/refresh`, gives the next one.
        """
        answer: Response = await self.canonical("POST /api/auth/login")(request)
        return answer

    async def register(self, body: Registration, request: Request) -> RegisteredOut:
        """Make a user: with an admin's token; or the first one, with the one-time code. It is never open to others."""
        if not self.auth.set_up:
            if body.code is None:
                raise DeniedError(403, "this gateway has no admin yet", HOW)
            granted = await self.auth.use_code(
                body.code, body.username, body.password, address_of(request), cookie=False
            )
            return RegisteredOut(mensaje="Usuario registrado", username=granted.user.name, role="admin")
        caller = self.auth.caller(request)
        if caller is None:
            raise HTTPException(401, f"nobody registers himself here: {HOW}", {"www-authenticate": "Bearer"})
        if not caller.role.may(Role.ADMIN):
            raise HTTPException(403, f"{caller.name} is {caller.role}: {HOW}")
        wanted = NewUser(username=body.username, password=body.password, role=body.role)
        made: UserOut = await self.canonical("POST /api/users")(wanted, caller)
        return RegisteredOut(mensaje="Usuario registrado", username=made.username, role=made.role)

    async def active(self) -> ActiveUsers:
        """List the users who are logged in now, each once; who was seen last is the first."""
        found: ActivePage = await self.canonical("GET /api/users/active")(page_size=MAX_PAGE_SIZE)
        users: dict[str, ActiveUser] = {}
        for one in found.items:
            users.setdefault(
                one.username, ActiveUser(username=one.username, role=one.role, ultimo_acceso=one.last_seen)
            )
        return ActiveUsers(total=len(users), usuarios=[*users.values()])
