"""Set-up, log-in and users of a gateway that runs, over its real port and command line."""

import re
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from tests.e2e import site
from tests.ports import free_port

CONFIG = """\
data_dir: {folder}/data
site: {{id: test}}
api: {{listen: "{listen}", tls: {tls}}}
{more}"""


def write_config(folder: Path, listen: str = "127.0.0.1:0", more: str = "", tls: str = "auto") -> Path:
    path = folder / "site.yaml"
    path.write_text(CONFIG.format(folder=folder, listen=listen, more=more, tls=tls))
    return path


def url_of(log: Path) -> str:
    site.wait_until(lambda: re.search(r"api: http://\S+", log.read_text()) is not None, "the API's address")
    found: str = re.findall(r"api: (http://\S+)", log.read_text())[0]
    return found


def status(url: str, token: str | None = None) -> int:
    try:
        site.send("GET", url, token=token)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


def user(config: Path, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agent", "user", *arguments, "--config", str(config)],
        cwd=site.ROOT,
        env=site.environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_makes_the_first_admin_while_the_gateway_runs(tmp_path: Path) -> None:
    config, log = write_config(tmp_path), tmp_path / "run.log"
    with site.process("agent", "run", "--config", str(config), log=log) as gateway:
        url = url_of(log)
        site.wait_until(lambda: "with the code" in log.read_text(), "the code")
        assert status(f"{url}/api/signals") == 403
        added = user(config, "add", "ana", "--role", "admin", "--password-stdin", stdin=f"{site.PASSWORD}\n")
        assert added.returncode == 0, added.stderr
        assert status(f"{url}/api/signals") == 401
        token = user(config, "token", "ana").stdout.strip()
        assert status(f"{url}/api/signals", token) == 200
        access = site.send("POST", f"{url}/api/auth/login", {"username": "ana", "password": site.PASSWORD})
        assert status(f"{url}/api/users", access["access_token"]) == 200
        assert user(config, "passwd", "ana", "--password-stdin", stdin="quite another one\n").returncode == 0
        assert status(f"{url}/api/users", access["access_token"]) == 401
        assert status(f"{url}/api/signals", token) == 401
        assert site.end(gateway) == 0
    assert "Traceback" not in log.read_text()


def test_set_up_outlives_a_restart_and_so_does_a_log_in(tmp_path: Path) -> None:
    config, log = write_config(tmp_path), tmp_path / "run.log"
    with site.process("agent", "run", "--config", str(config), log=log) as gateway:
        url = url_of(log)
        site.token(url, log)
        tokens = site.send("POST", f"{url}/api/auth/login", {"username": site.ADMIN, "password": site.PASSWORD})
        gateway.kill()
        gateway.wait()
    with site.process("agent", "run", "--config", str(config), log=log):
        url = url_of(log)
        renewed = site.send("POST", f"{url}/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})
        assert status(f"{url}/api/users", renewed["access_token"]) == 200
        assert "with the code" not in log.read_text()


@pytest.mark.parametrize("level", ["debug", "error"])
def test_the_code_is_said_at_every_level_and_other_machines_are_let_in(tmp_path: Path, level: str) -> None:
    log = tmp_path / "run.log"
    port = free_port()
    config = write_config(tmp_path, f"0.0.0.0:{port}", f"log: {{level: {level}}}\n", tls="off")
    with site.process("agent", "run", "--config", str(config), log=log):
        url = f"http://127.0.0.1:{port}"
        site.wait_until(lambda: "with the code" in log.read_text(), "the code")
        site.token(url, log)
        assert site.get(f"{url}/api/system/health")["site"] == "test"
    assert site.PASSWORD not in log.read_text()
