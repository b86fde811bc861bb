"""ETSI EN 303 645 on a gateway that runs: its ports (5.6-1), its secrets at ``debug`` (5.4-1), its files (5.11)."""

import base64
import contextlib
import re
import socket
import ssl
import urllib.request
from pathlib import Path

import pytest

from agent.api.tls import FOLDER
from tests.e2e import site
from tests.ports import free_port

SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"
_LISTEN = "0A"  # the state of a socket in /proc/net/tcp


def listening(pid: int) -> set[tuple[str, int]]:
    """(protocol, port) of each socket on which a process waits for others; what ``ss -lntup`` shows."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            found = re.fullmatch(r"socket:\[(\d+)\]", str(handle.readlink()))
            inodes |= {found[1]} if found else set()
    ports = set()
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        table = Path(f"/proc/{pid}/net/{protocol}")
        for row in table.read_text().splitlines()[1:] if table.is_file() else []:
            columns = row.split()
            local, state, inode = columns[1], columns[3], columns[9]
            if inode in inodes and (state == _LISTEN or protocol.startswith("udp")):
                ports.add((protocol[:3], int(local.rpartition(":")[2], 16)))
    return ports


def documented() -> dict[str, str]:
    """The table of ports in docs/security.md: the configuration's key and the protocol."""
    return dict(re.findall(r"^\| `(\w+\.listen)` \| (\w+) ", SECURITY.read_text(), re.MULTILINE))


def knock(port: int, identity: str, password: str) -> bytes:
    """What a charger is answered that comes with a password."""
    proof = base64.b64encode(f"{identity}:{password}".encode()).decode()
    head = (
        f"GET /ocpp/{identity} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: ocpp1.6\r\nAuthorization: Basic {proof}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode())
        return connection.recv(4096)


@pytest.mark.parametrize("level", ["debug"])
def test_ports_are_the_documented_ones_and_no_secret_leaves_at_debug(tmp_path: Path, level: str) -> None:
    api, ocpp, log = free_port(), free_port(), tmp_path / "run.log"
    secret, wrong = "canary-of-the-charger-0001", "canary-of-a-stranger-0002"
    (tmp_path / "cp.password").write_text(secret)
    (tmp_path / "cp.password").chmod(0o600)
    config = tmp_path / "site.yaml"
    config.write_text(
        f"data_dir: {tmp_path}/data\nsite: {{id: test}}\nlog: {{level: {level}}}\n"
        f'api: {{listen: "0.0.0.0:{api}"}}\nocpp: {{listen: "127.0.0.1:{ocpp}"}}\n'
        f"devices:\n  - {{id: cp1, driver: ocpp, charge_point_id: CP-1, password_file: {tmp_path}/cp.password}}\n"
    )
    with site.process("agent", "run", "--config", str(config), log=log) as gateway:
        site.wait_until(lambda: "with the code" in log.read_text(), "the code")
        site.wait_until(lambda: ("tcp", ocpp) in listening(gateway.pid), "the chargers' port")
        assert b"101 " in knock(ocpp, "CP-1", secret)
        assert b"101 " not in knock(ocpp, "CP-1", wrong)
        assert listening(gateway.pid) == {("tcp", api), ("tcp", ocpp)}
        assert documented() == {"api.listen": "TCP", "ocpp.listen": "TCP"}
        context = ssl.create_default_context(cafile=tmp_path / "data" / FOLDER / "authority.pem")
        with urllib.request.urlopen(f"https://localhost:{api}/openapi.json", context=context) as answer:
            shown = answer.read().decode()
        assert site.end(gateway) == 0
    text = log.read_text()
    key = "".join((tmp_path / "data" / FOLDER / "server.pem").read_text().split("-----")[2].split())
    for canary in (secret, wrong):
        proof = base64.b64encode(f"CP-1:{canary}".encode()).decode()
        for told in (canary, proof):
            assert told not in text, "in the log"
            assert told not in shown, "in the description"
    assert key[:40] not in "".join(text.split())
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in kept)
    for path in kept:
        content = path.read_bytes()
        assert secret.encode() not in content, f"in the clear in {path.name}"
        assert wrong.encode() not in content, f"in the clear in {path.name}"
