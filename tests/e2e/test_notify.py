"""Messages over real sockets: Apprise in its own process, a webhook, a mail server, and servers that misbehave."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.core.clock import SystemClock
from agent.core.model import Event
from cloud_sync.notify import send as sending
from cloud_sync.notify.notifier import ChannelSettings, Notifier
from cloud_sync.notify.send import Message, send

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MESSAGE = Message("Depot 7: CRITICAL hot", "Battery 1 is hot: 61 °C\nSince now", "critical")


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A server on a port of its own; what is still connected at the end is cut off."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if met():
                return
            await asyncio.sleep(0.05)


class Webhook:
    """An HTTP server that keeps what is posted, and answers with ``status``."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.posted: list[dict[str, object]] = []
        self.lines: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (length,) = (int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length"))
        self.lines.append(head.splitlines()[0])
        self.posted.append(json.loads(await reader.readexactly(length)))
        writer.write(f"HTTP/1.1 {self.status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()


class MailServer:
    """RFC 5321, as far as a client that only delivers needs it; ``refuse`` is the answer to a recipient."""

    def __init__(self, refuse: str = "") -> None:
        self.refuse = refuse
        self.mails: list[tuple[str, list[str], str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        sender, recipients = "", list[str]()
        await say("220 test ESMTP")
        while line := (await reader.readline()).decode().strip():
            verb = line.upper()
            if verb.startswith("MAIL FROM:"):
                sender, recipients = line[10:], []
                await say("250 ok")
            elif verb.startswith("RCPT TO:"):
                recipients.append(line[8:])
                await say(self.refuse or "250 ok")
            elif verb == "DATA":
                await say("354 go on")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                self.mails.append((sender, recipients, text))
                await say("250 taken")
            elif verb == "QUIT":
                await say("221 bye")
                return
            else:
                await say("250 test" if verb.startswith(("EHLO", "HELO", "RSET")) else "502 what?")


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1 << 16)
    await asyncio.sleep(3600)


async def _trickling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each byte comes in time; all of them never do."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


def test_a_webhook_gets_title_text_and_severity() -> None:
    async def scenario() -> None:
        hook = Webhook()
        async with listening(hook.serve) as port:
            assert await send(f"json://127.0.0.1:{port}/alarms/k3y", MESSAGE) == ""
        ((posted,), (line,)) = hook.posted, hook.lines
        assert line == "POST /alarms/k3y HTTP/1.1"
        assert (posted["title"], posted["message"], posted["type"]) == (MESSAGE.title, MESSAGE.body, "failure")

    asyncio.run(scenario())


def test_a_mail_reaches_its_recipients() -> None:
    async def scenario() -> None:
        server = MailServer()
        async with listening(server.serve) as port:
            url = (
                f"mailto://127.0.0.1:{port}/?from=gateway@site.example&to=ana@site.example,bo@site.example&format=text"
            )
            assert await send(url, MESSAGE) == ""
        senders = {sender for sender, _, _ in server.mails}
        assert {one for _, recipients, _ in server.mails for one in recipients} == {
            "<ana@site.example>",
            "<bo@site.example>",
        }
        assert all("gateway@site.example" in sender for sender in senders)
        assert all("Subject: Depot 7: CRITICAL hot" in text for _, _, text in server.mails)

    asyncio.run(scenario())


def test_what_refuses_is_told_in_words_and_without_the_address() -> None:
    async def scenario() -> None:
        hook, mail = Webhook("403 Forbidden"), MailServer("550 no such user")
        async with listening(hook.serve) as port, listening(mail.serve) as mail_port:
            answers = {
                "403": await send(f"json://us3r:pa55word@127.0.0.1:{port}/k3ykey", MESSAGE),
                "550": await send(
                    f"mailto://127.0.0.1:{mail_port}/?from=a@k3ykey.example&to=pa55word@x.example", MESSAGE
                ),
                "Slack": await send("slack://us3r/pa55word/k3ykey", MESSAGE),
                "Unsupported": await send("pa55word", MESSAGE),
            }
        answers["refused"] = await send(f"json://us3r:pa55word@127.0.0.1:{port}/k3ykey", MESSAGE)
        for word, answer in answers.items():
            assert word in answer
            assert not [secret for secret in ("us3r", "pa55word", "k3ykey") if secret in answer], answer

    asyncio.run(scenario())


def test_a_server_that_says_nothing_is_a_fault_in_words() -> None:
    async def scenario() -> None:
        async with listening(_silent) as port:
            assert "timed out" in await send(f"json://127.0.0.1:{port}/?rto=1", MESSAGE)

    asyncio.run(scenario())


def test_a_server_that_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SEND_TIMEOUT_S", 3.0)

    async def scenario() -> None:
        async with listening(_trickling) as port:
            assert await send(f"json://127.0.0.1:{port}/", MESSAGE) == "was not done within 3 s"

    asyncio.run(scenario())


def test_a_sender_that_can_not_run_is_a_fault_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        assert "no process could be started" in await send("json://127.0.0.1/", MESSAGE)
        broken = tmp_path / "python"
        broken.write_text("#!/bin/sh\necho 'ImportError: json://h/k3ykey' >&2\nexit 3\n")
        broken.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(broken))
        assert await send("json://h/k3ykey", MESSAGE) == "the sender ended with code 3: ImportError: …"

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_alarms_reach_who_can_be_reached_and_the_rest_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A site with a mail server, a webhook that is down at first, and a server that hangs."""

    async def scenario() -> None:
        mail, hook, ledger = MailServer(), Webhook("503 Busy"), list[Event]()
        async with listening(mail.serve) as mail_port, listening(hook.serve) as port, listening(_silent) as silent:
            file = tmp_path / "ops.url"
            file.write_text(
                f"# who is told\njson://127.0.0.1:{silent}/k3ykey?rto=60\njson://127.0.0.1:{port}/k3ykey\n"
                f"mailto://127.0.0.1:{mail_port}/?from=a@k3ykey.example&to=b@k3ykey.example&format=text\n"
            )
            notifier = Notifier([ChannelSettings("ops", file)], SystemClock(), ledger.append, "Depot 7")
            run = asyncio.create_task(notifier.run())
            data = {"severity": "critical", "text": "Battery 1 is hot"}
            notifier.hear(Event("alarm.raised", SystemClock().now_us(), "hot", data))
            await until(lambda: bool(mail.mails and ledger))
            hook.status = "200 OK"
            await until(lambda: "notify.back" in [event.kind for event in ledger])
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        assert len(mail.mails) == 1
        assert "Battery 1 is hot" in mail.mails[0][2]
        assert [one["title"] for one in hook.posted] == ["Depot 7: CRITICAL hot"] * len(hook.posted)
        assert [event.kind for event in ledger] == ["notify.failed", "notify.back"]
        assert "503" in str(ledger[0].data)
        assert notifier.status()[0].sent == 2
        told = caplog.text + repr(ledger)
        assert "k3ykey" not in told

    asyncio.run(scenario())
