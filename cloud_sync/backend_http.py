"""One HTTP question to the event backend and its answer, bounded in size and time.

The only file that imports ``requests``: its exceptions end here, and no text of theirs, which may hold what is secret,
goes any further. Nothing is followed to another place: the token goes to the configured server alone.
"""

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from agent.core.clock import Clock
from agent.core.errors import AgentError, ConfigError
from cloud_sync.settings import EventBackendSettings

MAX_BYTES = 1_000_000

_CHUNK = 16_384
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
#: What is said of the server's state, not of what was asked.
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class BackendError(AgentError):
    """The server can't be used now. ``unsure``: it may have done what it was told."""

    def __init__(self, op: str, reason: str, hint: str = "", *, unsure: bool = False) -> None:
        super().__init__(op, reason, hint)
        self.unsure = unsure


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to what was asked: a success, or a refusal (400 to 499)."""

    status: int
    body: bytes
    location: str = ""


class Asker:
    """Asks one question at a time, each in a thread of its own.

    A server that sends a byte now and then holds the thread for as long as it likes. The thread is left to it, and
    until it ends no other question is asked; a process that stops does not wait for it.
    """

    def __init__(self, settings: EventBackendSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._last: Future[Answer | BackendError] | None = None

    async def ask(self, method: str, path: str, op: str) -> Answer:
        """The answer. ``op`` says what for. Raises ``BackendError``."""
        if self._last is not None and not self._last.done():
            raise BackendError(op, "it still keeps the last question open")
        answered = self._last = Future()
        answered.set_running_or_notify_cancel()
        address = self._settings.address(path)

        def work() -> None:
            answer: Answer | BackendError = BackendError(op, "a bug of Enlace: the log holds its traceback")
            try:
                answer = _exchange(self._settings, method, address, op)
            except BackendError as error:
                answer = error
            finally:
                answered.set_result(answer)

        threading.Thread(target=work, name="event backend", daemon=True).start()
        waiting = asyncio.wrap_future(answered)
        timer = asyncio.ensure_future(self._clock.sleep_s(self._settings.timeout_s))
        tasks: list[asyncio.Future[object]] = [waiting, timer]  # type: ignore[list-item] # futures only give
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            answer = waiting.result() if waiting.done() else _too_slow(op, self._settings.timeout_s)
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(answer, BackendError):
            raise answer
        return _judged(op, answer)


def _exchange(settings: EventBackendSettings, method: str, address: str, op: str) -> Answer:
    """One HTTP exchange; blocks. Raises ``BackendError``."""
    import requests  # noqa: PLC0415 - few sites ask a server

    try:
        token = settings.token()
    except ConfigError as error:
        raise BackendError(op, str(error)) from error

    def prove(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Being asked for a proof keeps requests from looking for one in ~/.netrc.
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    try:
        with (
            requests.Session() as session,
            session.request(
                method,
                address,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auth=prove,
                timeout=settings.timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise BackendError(op, "its answer is compressed, which nobody asked for", unsure=True)
            body = bytearray()
            for chunk in response.iter_content(_CHUNK):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise BackendError(op, f"its answer is longer than {MAX_BYTES} bytes", unsure=True)
            return Answer(response.status_code, bytes(body), response.headers.get("Location", ""))
    except requests.exceptions.SSLError as error:
        hint = "is url: the name that it was given for?"
        raise BackendError(op, "its certificate can't be verified", hint) from error
    except requests.Timeout as error:
        raise _too_slow(op, settings.timeout_s) from error
    except (requests.RequestException, OSError) as error:
        raise BackendError(op, f"it can't be reached ({type(error).__name__})", unsure=True) from error


def _too_slow(op: str, timeout_s: float) -> BackendError:
    return BackendError(op, f"no answer within {timeout_s:g} s", unsure=True)


def _judged(op: str, answer: Answer) -> Answer:
    """The answer, where it is one to what was asked. Raises ``BackendError``."""
    status = answer.status
    if status in _DENIED:
        raise BackendError(op, f"it refuses the token (HTTP {status})", "see token_file:")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise BackendError(op, f"it sends us on to {_place(answer.location)}", "write that as url:, if it is right")
    if status in _LATER:
        raise BackendError(op, f"it answers HTTP {status}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.OK:
        raise BackendError(op, f"it answers HTTP {status}", unsure=True)
    return answer


def _place(location: str) -> str:
    """Where a redirect leads, without what may be secret in it."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "nowhere"
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "another path"
