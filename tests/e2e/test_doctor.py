"""``enlace doctor`` over a real store: secrets stand wherever they can, none of them gets out; nothing is changed."""

import asyncio
import hashlib
import json
import shutil
import urllib.request
import zipfile
from array import array
from pathlib import Path

import pytest

from agent.api.users import Role, UserBook
from agent.core.clock import SystemClock
from agent.core.model import Batch, Event, Session, SignalSpec
from agent.store.db import Store
from agent.store.settings import DATABASE, StoreSettings
from tests.e2e.site import enlace, process
from tests.e2e.test_login import url_of

WAIT_S = 60.0
#: What must not get out, by where it is planted.
SECRETS = {
    name: f"Zq7{hashlib.sha256(name.encode()).hexdigest()[:20]}"
    for name in (
        "mqtt password",
        "comment",
        "broker address",
        "unknown key",
        "webhook path",
        "webhook password",
        "backend token",
        "key file",
        "in the place of a file",
        "environment",
        "id tag",
        "session tag",
        "charger's password",
        "event",
        "event's text",
        "known in an event",
    )
}
PEOPLE = ("annabella", "removed-user")
CONFIG = """\
# the old password was {comment}
data_dir: {folder}/data
site: {{id: depot-7, name: Depot 7}}
api: {{listen: "127.0.0.1:0"}}
ocpp: {{listen: "127.0.0.1:0", id_tags: known}}
devices:
  - {{id: cp1, driver: ocpp, charge_point_id: CP-0001, password_file: cp1.password}}
  - {{id: cp2, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:9", unit_id: 1, every_s: 2}}
notify:
  - {{id: ops, url_file: ops.url}}
event_backend: {{url: "http://127.0.0.1:9", token_file: backend.token}}
uplink: {{broker: "mqtt://127.0.0.1:1", username: annabella, password_file: mqtt.password}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site with a secret in each place that has room for one."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.yaml").write_text(CONFIG.format(folder=folder, comment=SECRETS["comment"]))
    files = {"mqtt.password": "mqtt password", "backend.token": "backend token", "cp1.password": "key file"}
    for name, key in files.items():
        (folder / name).write_text(f"{SECRETS[key]}\n")
    (folder / "ops.url").write_text(
        f"# {SECRETS['comment']}\nmailto://annabella:{SECRETS['webhook password']}@mail.example\n"
        f"https://hooks.example/services/{SECRETS['webhook path']}\n"
    )
    data = folder / "data"
    data.mkdir()
    UserBook(data).add("annabella", Role.ADMIN, "no password is this hash")
    fill(data)
    return folder


def fill(data: Path) -> None:
    clock, in_text, known = SystemClock(), SECRETS["event's text"], SECRETS["mqtt password"]
    store = Store.open(data / DATABASE, clock, StoreSettings())
    try:
        (signal,) = store.assign([SignalSpec("cp2", "power_w", "W")])
        store.append(Batch(array("i", [signal.id]), array("q", [clock.now_us()]), array("q", [4321])))
        note = {"tag": SECRETS["id tag"], "status": "Accepted", "name": "annabella"}
        asyncio.run(store.write("id_tag", SECRETS["id tag"].casefold(), note))
        asyncio.run(store.write("ocpp.credential", "CP-0001", {"salt": SECRETS["charger's password"]}))
        asyncio.run(store.begin(Session("cp1", 1, "a", clock.now_us(), id_tag=SECRETS["session tag"])))
        events = [
            Event("audit", clock.now_us(), "users", {"who": "user:removed-user", "what": "log in", "result": "done"}),
            Event("station.changed", clock.now_us(), "cp1", {"password": SECRETS["event"], "by": "user:annabella"}),
            Event("device.offline", clock.now_us(), "cp2", {"error": f"ask http://u:{in_text}@h"}),
            Event("device.offline", clock.now_us(), "cp9", {"error": "it was taken out since"}),
            Event("x.y", clock.now_us(), SECRETS["session tag"], {"text": f"got {known} removed-user"}),
            Event("x.z", clock.now_us(), "k", {"key": "AuthorizationKey", "value": SECRETS["known in an event"]}),
        ]
        for event in events:
            store.record(event).result(WAIT_S)
        store.flush().result(WAIT_S)
    finally:
        store.close()


def stands(folder: Path) -> dict[str, tuple[str, int, int]]:
    """What stands in a folder, its bytes and when they were written."""
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_clean(files: dict[str, str], *shown: str) -> None:
    for name, text in {**files, "screen": "".join(shown)}.items():
        told = [what for what, secret in SECRETS.items() if secret.casefold() in text.casefold()]
        assert not told, (name, told)
        assert not [one for one in PEOPLE if one in text.casefold()], name


def files_of(bundle: Path) -> dict[str, str]:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_stopped_site_tells_all_but_its_secrets_and_stays_as_it_is(folder: Path) -> None:
    before = stands(folder)
    out = folder.parent / "bundle.zip"
    done = enlace("doctor", "--config", str(folder / "site.yaml"), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert stands(folder) == before
    assert out.stat().st_mode & 0o777 == 0o600
    files = files_of(out)
    assert_clean(files, done.stdout, done.stderr)
    assert "could not be made: -" in files["README.txt"]
    assert "error: the gateway does not run" in done.stdout
    assert done.stdout.splitlines() == [line for line in files["summary.txt"].splitlines() if "info:" not in line]
    assert "\x1b" not in done.stdout + done.stderr
    assert files["config/site.yaml"].splitlines()[2] == "site: {id: depot-7, name: Depot 7}"
    (power,) = json.loads(files["gateway/signals.json"])
    assert (power["signal"], power["value"], power["unit"]) == ("cp2.power_w", 4321, "W")
    devices = {one["id"]: one for one in json.loads(files["gateway/devices.json"])}
    assert devices["cp2"]["last_event"]["kind"] == "device.offline"
    assert json.loads(files["store/figures.json"])["rows"]["session"] == 1
    assert [one["kind"] for one in json.loads(files["store/ledger.json"])][-1] == "audit"
    again = enlace("doctor", "--config", str(folder / "site.yaml"), "--out", str(out))
    assert (again.returncode, "File exists" in again.stderr) == (2, True), "a bundle never replaces a file"


def test_databases_that_stand_aside_are_named_with_what_to_do(folder: Path) -> None:
    for kind in ("newer", "corrupt", "foreign"):
        for end in ("", "-wal"):
            (folder / "data" / f"{DATABASE}.{kind}-20260102T030405Z{end}").write_bytes(bytes(1_000_000))
    out = folder.parent / "aside.zip"
    done = enlace("doctor", "--config", str(folder / "site.yaml"), "--out", str(out))
    lines = [line for line in done.stdout.splitlines() if "stands aside" in line]
    assert len(lines) == 3, done.stdout
    (newer,) = (line for line in lines if "newer-20260102T030405Z (1.0 MB)" in line)
    assert "docs/durability.md" in done.stdout.partition(newer)[2].splitlines()[0] + newer


def test_broken_parts_of_a_site_stop_nothing(folder: Path) -> None:
    """A configuration that can't be used, a store that is none, secrets in the wrong places."""
    config = folder / "site.yaml"
    misplaced = SECRETS["in the place of a file"]
    text = config.read_text().replace("password_file: mqtt.password", f"password_file: {misplaced}")
    text = text.replace("mqtt://127.0.0.1:1", f"mqtts://annabella:{SECRETS['broker address']}@h")
    config.write_text(f"{text}password: {SECRETS['unknown key']}\n")
    variables = {"ENLACE_UPLINK_BROKER": f"mqtt://x:{SECRETS['environment']}@h"}
    out = folder.parent / "bundle.zip"
    done = enlace("doctor", "--config", str(config), "--out", str(out), **variables)
    assert done.returncode == 0, done.stderr
    files = files_of(out)
    assert_clean(files, done.stdout, done.stderr)
    assert "password" in files["summary.txt"], "what is wrong with the configuration is said"
    assert files["config/environment.txt"].split() == ["ENLACE_UPLINK_BROKER"]
    assert json.loads(files["store/figures.json"])["rows"]["session"] == 1, "the store is found all the same"
    for number, (what, content) in enumerate({"no YAML": "a: [", "empty": "", "no text": "\x00"}.items()):
        config.write_text(f"{content} # {SECRETS['comment']}")
        out = folder.parent / f"{number}.zip"
        data = str(folder / "data")
        done = enlace("doctor", "--config", str(config), "--data-dir", data, "--out", str(out))
        assert done.returncode == 0, (what, done.stderr)
        files = files_of(out)
        assert_clean({name: text for name, text in files.items() if name != "config/check.txt"}, done.stdout)
        assert "error: " in files["summary.txt"]
    (folder / "data" / DATABASE).write_bytes(b"this is no database" * 1000)
    out = folder.parent / "no-store.zip"
    done = enlace("doctor", "--config", str(config), "--data-dir", str(folder / "data"), "--out", str(out))
    assert done.returncode == 0, done.stderr
    files = files_of(out)
    assert "could not be made: StoreError" in files["store/figures.json"]
    assert "not in the bundle: store/ledger.json" in done.stderr
    assert json.loads(files["machine/versions.json"])["enlace"]


def test_a_running_gateway_is_asked_and_gives_the_same_over_http(folder: Path, tmp_path: Path) -> None:
    config, log = folder / "site.yaml", folder / "run.log"
    users = UserBook(folder / "data")
    for name in ("", "-wal", "-shm"):  # of a backup that was killed
        (folder / "data" / f".enlace-backup-1234-enlace.db{name}").touch()
    with process("agent", "run", "--config", str(config), log=log) as running:
        url = url_of(log)
        assert not list((folder / "data").glob(".enlace-backup*"))
        token = users.add_token("annabella", "test", 0)
        SECRETS["token"] = token
        out = folder.parent / "bundle.zip"
        done = enlace("doctor", "--config", str(config), "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert "the gateway runs" in done.stderr
        assert "does not run" not in done.stdout
        assert "cp2: offline" in done.stdout
        assert "cp9" not in done.stdout
        assert_clean(files_of(out), done.stdout, done.stderr)
        lines = json.loads(_asked("GET", f"{url}/api/system/logs?level=debug&limit=1000", token))
        assert lines["total"] == len(lines["items"]) > 3
        assert "api: http://127.0.0.1" in json.dumps(lines)
        assert_clean({"lines": json.dumps(lines)})
        assert json.loads(_asked("GET", f"{url}/api/system/logs?text=API%3A%20HTTP", token))["total"] == 1
        bundle, backup = folder.parent / "http.zip", folder.parent / "http.tar"
        bundle.write_bytes(_asked("POST", f"{url}/api/system/doctor", token))
        files = files_of(bundle)
        assert_clean(files)
        assert "could not be made: -" in files["README.txt"]
        assert "api: http://127.0.0.1" in files["gateway/log.txt"]
        assert "warning: cp2: offline: " in files["summary.txt"]
        assert "enlace_uptime_seconds" in files["gateway/metrics.txt"]
        backup.write_bytes(_asked("POST", f"{url}/api/system/backup", token))
        assert not [path for path in (folder / "data").iterdir() if path.name.startswith(".enlace-backup")]
        assert running.poll() is None
    shutil.rmtree(folder / "data")
    done = enlace("restore", str(backup), "--config", str(tmp_path / "new" / "site.yaml"), "--yes")
    assert done.returncode == 0, done.stderr
    assert UserBook(folder / "data").get("annabella") is not None


def _asked(method: str, url: str, token: str) -> bytes:
    request = urllib.request.Request(url, method=method, headers={"authorization": f"Bearer {token}"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
        content: bytes = answer.read()
    return content
