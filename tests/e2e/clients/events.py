"""The other sides of the event-state service: who asks whether it lives, and a small backend with events that are due.

    python tests/e2e/clients/events.py http://localhost:8080 18080 the-token

The gateway's configuration has `event_backend: {url: "http://127.0.0.1:18080", token_file: …, every_s: 5}`.
"""
# ruff: noqa: T201, S310, ANN401 - a program that prints what it does; the URL is its user's; answers are any JSON

import json
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_S = 120
ROOT = "/api/events-status"


class Backend:
    """Two events: each is due to start, then to finish. The first time it is asked, it fails."""

    def __init__(self, port: int, token: str) -> None:
        self.states = {"101": "programado", "102": "programado"}
        self.told: list[str] = []
        self.failed = threading.Event()
        self.over = threading.Event()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not backend.failed.is_set():
                    backend.failed.set()
                    self.answer(500, {"detail": "I am not well"})
                elif self.headers["Authorization"] != f"Bearer {token}":
                    self.answer(401, {"detail": "who are you?"})
                else:
                    due = {f"{ROOT}/pending-start/": "programado", f"{ROOT}/pending-finish/": "en_progreso"}[self.path]
                    found = [one for one, state in backend.states.items() if state == due]
                    self.answer(200, [{"id": int(one), "name": f"Evento {one}", "status": due} for one in found])

            def do_POST(self) -> None:
                _, event, what, _ = self.path.removeprefix(ROOT).split("/")
                backend.told.append(f"{event} {what}")
                backend.states[event] = {"start": "en_progreso", "finish": "finalizado"}[what]
                self.answer(200, {"id": int(event), "status": backend.states[event]})
                if set(backend.states.values()) == {"finalizado"}:
                    backend.over.set()

            def answer(self, status: int, body: object) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                print("backend:", self.command, self.path, "->", status, content.decode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Say nothing: each answer is printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def ask(url: str) -> Any:
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Accept": "application/json"}), timeout=30
    ) as answer:
        found = json.load(answer)
    print("GET", url, "->", json.dumps(found))
    return found


def expect(true: bool, what: str) -> None:  # noqa: FBT001 - the thing that is expected
    if not true:
        raise SystemExit(f"not so: {what}")


def main(url: str, port: int, token: str) -> None:
    url = url.rstrip("/")
    expect(ask(f"{url}/health") == {"status": "ok"}, "the service lives")
    what = ask(f"{url}/")
    expect(set(what) == {"service", "version", "status", "scheduler_interval_seconds"}, "and says what it is")
    expect(what["scheduler_interval_seconds"] >= 5, "and how often it asks")
    backend = Backend(port, token)
    expect(backend.failed.wait(PATIENCE_S), "the backend is asked")
    expect(backend.over.wait(PATIENCE_S), "a failure does not stop it; all events are started and finished")
    backend.server.shutdown()
    expect(sorted(backend.told) == ["101 finish", "101 start", "102 finish", "102 start"], "each once")
    expect(ask(f"{url}/health") == {"status": "ok"}, "the service lives still")
    print("all as it was")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
