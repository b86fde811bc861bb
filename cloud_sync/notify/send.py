"""The sole owner of Apprise: one message to one address, in a process of its own.

A process and not a thread, for three reasons. Apprise loads all its services, 48 MB resident, which a gateway that
sends a message a week would carry for ever. A server that answers a byte now and then holds a thread for as long as it
likes; a process is ended. And whatever Apprise logs stays there: what is told of a failure has no part of the address.
"""

import asyncio
import json
import logging
import re
import sys
from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

#: Loading takes 0.5 s on a PC and some seconds on a small board; mail servers may take their time to greet.
SEND_TIMEOUT_S = 45.0
#: The mildest to the loudest, in the words of ``NotifyType``; ``over`` is good news.
_TYPES = {"info": "info", "over": "success", "warning": "warning", "critical": "failure"}
_MAX_REASON = 300
#: Shorter pieces of an address are words like any other.
_SECRET_LEN = 3
_HIDDEN = "…"
#: Apprise shows an address in a short form of its own, with the ends of the password in it.
_URL = re.compile(r"[\w.+-]+://\S+")


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: plain text. ``kind`` is ``info``, ``warning``, ``critical`` or ``over``."""

    title: str
    body: str
    kind: str


async def send(address: str, message: Message) -> str:
    """Hand a message to an address as Apprise writes them; empty when it was taken, else why not, in words.

    What is said never holds a part of the address but its scheme.
    """
    # The address goes through a pipe: everybody on the machine may read command lines.
    job = json.dumps({"address": address, **asdict(message)}).encode()
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "cloud_sync.notify.send", stdin=pipe, stdout=pipe, stderr=pipe
        )
    except OSError as error:
        return f"no process could be started: {error.strerror or error}"
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            said, failed = await process.communicate(job)
    except TimeoutError:
        return f"was not done within {SEND_TIMEOUT_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = json.loads(said)
        return "" if answer["sent"] is True else redact(str(answer["said"]), address)
    except (ValueError, KeyError, TypeError):
        last = failed.decode(errors="replace").strip().rpartition("\n")[2]
        return redact(f"the sender ended with code {process.returncode}: {last}", address)


def redact(text: str, address: str) -> str:
    """A text without any part of an address: names, passwords, keys and hosts, as written, unquoted or quoted."""
    parts = urlsplit(address)
    pieces = [address, *re.split(r"[/@:]", f"{parts.netloc}/{parts.path}/{parts.fragment}")]
    for _, value in parse_qsl(parts.query):
        pieces += [value, *value.split(","), *re.split(r"[/@:,]", value)]
    plain = {unquote(piece) for piece in pieces}
    shown = {*pieces, *plain, *map(quote, plain), *map(quote_plus, plain)}
    secrets = {one for one in shown if len(one) >= _SECRET_LEN}
    text = _URL.sub(_HIDDEN, text)
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(re.escape(secret), _HIDDEN, text, flags=re.IGNORECASE)
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}…"


def service(address: str) -> str:
    """What may be told of an address: its scheme."""
    scheme, found, _ = address.partition("://")
    return scheme.lower() if found and scheme.isalnum() else "?"


def main() -> None:
    """In the process: read the job, try once, say what came of it."""
    job = json.load(sys.stdin)
    sent, said = _notify(job["address"], Message(job["title"], job["body"], job["kind"]))
    sys.stdout.write(json.dumps({"sent": sent, "said": said}))


def _notify(address: str, message: Message) -> tuple[bool, str]:
    import apprise  # noqa: PLC0415 - only the sending process carries it

    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            # Apprise tells a fault as a warning, and its cause at debug level.
            if record.levelno >= logging.WARNING or text.startswith("Socket Exception"):
                said.append(text.removeprefix("Socket Exception: "))

    logger = logging.getLogger("apprise")
    logger.addHandler(Ear())
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    asset = apprise.AppriseAsset(app_id="Enlace", app_desc="Enlace", app_url="", async_mode=False)
    target = apprise.Apprise(asset=asset)
    if not target.add(address):
        return False, "; ".join(said) or "is no address that Apprise knows"
    kind = apprise.NotifyType(_TYPES[message.kind])
    sent = target.notify(message.body, message.title, kind, body_format=apprise.NotifyFormat.TEXT)
    return bool(sent), "; ".join(said) or "was refused"


if __name__ == "__main__":
    main()
