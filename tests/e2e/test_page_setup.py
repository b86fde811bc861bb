"""The dashboard in a browser: a site is set up, devices are tested, changed, adopted and taken out, and what an
administrator takes away from the gateway arrives; what is not of now looks so.
"""

import contextlib
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e import browser as rig
from tests.e2e import site
from tests.e2e.browser import Site
from tests.ports import free_port

MODBUS = "drivers.sim.charger_modbus"
OCPP = "drivers.sim.charger_ocpp"
#: The answer to "who am I" of who is nobody yet.
NOBODY = "401"
GONE = "ERR_|Failed to fetch"
STALE = re.compile(r"\bstale\b")

EMPTY = """\
# The installer's own words, which no tool of ours may lose.
data_dir: {folder}/data   # fast disk
site: {{id: depot}}
api: {{listen: "127.0.0.1:{api}"}}
alarms: [{{id: hot, when: "ghost.temperature_degc > 50", text: Too hot}}]
"""
#: What `enlace check` says of that alarm.
FINDING, IN_SPANISH = "there is no device `ghost`", "no existe el equipo `ghost`"
CONFIG = """\
data_dir: {folder}/data
site: {{id: depot, name: Depot 7, timezone: Europe/Madrid}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}"}}
devices:
  - {{id: wall, name: Wall, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{modbus}", every_s: 0.5}}
  - {{id: old, name: Old one, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{nothing}", every_s: 0.5}}
stations:
  - {{station: wall, min_on_s: 0, min_off_s: 0}}
alarm_sets: []
alarms: [{{id: hot, when: "ghost.temperature_degc > 50", text: Too hot}}]
"""


@dataclass
class Place:
    """A site that was set up, and its charger on Modbus, which can go and come; ``old`` answers never."""

    depot: Site
    ocpp: int = field(default_factory=free_port)
    charger: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def charger_comes(self) -> None:
        log = self.depot.folder / "charger.log"
        self.charger.enter_context(site.process(MODBUS, "--port", str(self.depot.modbus), log=log))

    def charger_goes(self) -> None:
        self.charger.close()


@contextlib.contextmanager
def started(folder: Path, config: str, ocpp: int) -> Iterator[Site]:
    found = Site(folder)
    ports = {"api": found.api, "modbus": found.modbus, "ocpp": ocpp, "nothing": free_port()}
    found.config.write_text(config.format(folder=folder, **ports))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with rig.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port = free_port()
    with started(tmp_path_factory.mktemp("depot"), CONFIG, port) as depot:
        found = Place(depot, port)
        with found.charger:
            found.charger_comes()
            site.token(depot.url, depot.log)
            yield found


def fits(page: Page) -> None:
    """No wider than the screen, and nothing serious found by axe."""
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert over <= 0, f"{page.url}: {over} px wider than the screen"
    found = rig.violations(page)
    assert not found, "\n".join([page.url, *found])


def card(page: Page, device: str) -> Locator:
    return page.get_by_role("article", name=device, exact=True)


def test_a_site_is_set_up_on_a_phone_in_spanish(chromium: Browser, tmp_path: Path) -> None:
    port = free_port()
    with (
        site.process(MODBUS, "--port", str(port), log=tmp_path / "charger.log"),
        started(tmp_path, EMPTY, 0) as depot,
        rig.look(chromium, size=rig.PHONE, language="es-MX", allowed=f"{NOBODY}|422") as page,
    ):
        rig.set_up(page, depot)
        steps = page.get_by_role("navigation", name="Pasos")
        expect(steps.get_by_role("link", name="Sitio")).to_have_attribute("aria-current", "step")
        fits(page)
        page.get_by_label("Nombre para personas").fill("Depósito 7")
        page.get_by_label("Zona horaria").fill("America/Nowhere")
        page.get_by_role("button", name="Guardar y seguir").click()
        expect(page.get_by_label("Zona horaria")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Zona horaria").fill("America/Mexico_City")
        page.get_by_role("button", name="Guardar y seguir").click()
        expect(steps.get_by_role("link", name="Equipos")).to_have_attribute("aria-current", "step")

        for kind in ("Cargadores que llaman", "Líneas serie", "CAN"):
            page.get_by_role("checkbox", name=kind).uncheck()
        page.get_by_text("Dónde exactamente").click()
        page.get_by_label("Equipos de red").fill(f"127.0.0.1:{port}")
        page.get_by_label("Números de unidad").fill("1")
        page.get_by_role("button", name="Buscar", exact=True).click()
        found = page.get_by_role("region", name="Encontrado: 1")
        expect(found).to_be_visible()
        page.get_by_role("button", name="Probar los elegidos").click()
        expect(found.get_by_text("Responde")).to_be_visible()
        assert "abb_terra_ac" not in depot.config.read_text(), "a test saves nothing"
        fits(page)
        rig.shoot(page, "wizard-found-phone-es")
        found.get_by_role("button", name="Cambiar").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Nombre para personas").fill("Pared izquierda")
        fits(page)
        dialog.get_by_role("button", name="Así es").click()
        page.get_by_role("button", name="Añadir 1 al sitio").click()
        expect(found.get_by_text("ya está en el sitio")).to_be_visible()
        expect(page.get_by_role("region", name="En el sitio: 1")).to_contain_text("en línea")

        page.get_by_role("link", name="Seguir").click()
        expect(page.get_by_text("La configuración se puede usar.")).to_be_visible()
        expect(page.get_by_role("region", name="Lo que dice enlace check")).to_contain_text(IN_SPANISH)
        assert FINDING in site.enlace("check", "--config", str(depot.config)).stdout
        fits(page)
        page.get_by_role("link", name="Seguir").click()
        expect(page.get_by_role("heading", name="El sitio está configurado")).to_be_visible()
        expect(page.get_by_role("region", name="En el sitio: 1")).to_contain_text("Pared izquierda")
        fits(page)
        rig.shoot(page, "wizard-done-phone-es")

        text = depot.config.read_text()
        assert text.startswith("# The installer's own words, which no tool of ours may lose.\n")
        assert "# fast disk" in text
        assert all(one in text for one in ("Depósito 7", "America/Mexico_City", "Pared izquierda", "abb_terra_ac"))
        page.goto(f"{depot.url}/#/devices")
        expect(page.get_by_role("article")).to_contain_text(["Pared izquierda"])
        expect(page.get_by_role("article").get_by_text("en línea")).to_be_visible()


def test_a_device_is_tested_changed_and_taken_out(chromium: Browser, place: Place) -> None:
    depot = place.depot
    with rig.look(chromium, allowed=f"{NOBODY}|404") as page:  # it is asked for once more while it is taken out
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/devices")
        dead, wall = card(page, "old"), card(page, "wall")
        expect(wall).to_contain_text("online")
        expect(dead).to_contain_text("offline")
        expect(dead.locator(".alert")).to_contain_text("onnect")  # the last error: connection refused
        expect(dead.locator(".alert")).to_contain_text("next try in")
        wall.get_by_role("button", name="Test").click()
        result = wall.locator(".test .alert")
        expect(result).to_contain_text("It answers")
        expect(result).to_contain_text("power_w")
        dead.get_by_role("button", name="Test").click()
        expect(dead.locator(".test .alert")).to_contain_text("It does not answer")
        fits(page)
        rig.shoot(page, "devices-tested")

        wall.get_by_role("link", name="Open").click()
        page.get_by_role("button", name="Change").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name for people").fill("Wall at the gate")
        fits(page)
        dialog.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", name="Wall at the gate")).to_be_visible()
        assert "Wall at the gate" in depot.config.read_text()

        page.goto(f"{depot.url}/#/devices/old")
        page.get_by_role("button", name="Take out").click()
        fits(page)
        page.get_by_role("dialog").get_by_role("button", name="Take out").click()
        expect(card(page, "wall")).to_be_visible()
        expect(card(page, "old")).to_have_count(0)
        assert "id: old" not in depot.config.read_text()


def test_a_charger_that_calls_is_adopted_and_its_password_is_shown_once(
    chromium: Browser, place: Place, tmp_path: Path
) -> None:
    depot = place.depot
    url = f"ws://127.0.0.1:{place.ocpp}/ocpp"
    with rig.look(chromium, allowed=NOBODY) as page, contextlib.ExitStack() as stack:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/devices")
        waiting = page.get_by_role("region", name="Chargers that wait")
        one = stack.enter_context(site.process(OCPP, "--url", f"{url}/CP-0001", log=tmp_path / "cp1.log"))
        stack.enter_context(site.process(OCPP, "--url", f"{url}/CP-0002", log=tmp_path / "cp2.log"))
        first = waiting.get_by_role("listitem").filter(has_text="CP-0001")
        second = waiting.get_by_role("listitem").filter(has_text="CP-0002")
        expect(second).to_contain_text("Enlace Sim")
        fits(page)
        rig.shoot(page, "chargers-wait")
        second.get_by_label("Name on this site").fill("cp2")
        second.get_by_role("button", name="Adopt").click()
        expect(page.get_by_text("CP-0002: it was given a new password")).to_be_visible()
        expect(card(page, "cp2")).to_contain_text("online")

        expect(first).to_contain_text("Enlace Sim")
        site.end(one)
        expect(first).to_contain_text("not there now")
        first.get_by_label("Name on this site").fill("cp1")
        first.get_by_role("button", name="Adopt").click()
        shown = waiting.get_by_role("status").filter(has_text="Password for CP-0001")
        password = shown.locator("code").first.inner_text()
        assert len(password) >= 16, password
        fits(page)
        shown.get_by_role("button", name="Put away").click()
        expect(page.get_by_text(password)).to_have_count(0)
        secret = tmp_path / "password"
        secret.write_text(password)
        arguments = ("--url", f"{url}/CP-0001", "--password-file", str(secret))
        stack.enter_context(site.process(OCPP, *arguments, log=tmp_path / "again.log"))
        expect(card(page, "cp1")).to_contain_text("online")
        page.reload()
        expect(card(page, "cp1")).to_be_visible()
        expect(page.get_by_text(password)).to_have_count(0)
        assert password not in depot.config.read_text()


def test_what_one_takes_away_arrives_and_a_viewer_sees_none_of_it(
    chromium: Browser, place: Place, tmp_path: Path
) -> None:
    depot = place.depot
    parts = ["State", "Log", "Events", "Backup and support"]
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/system")
        tabs = page.get_by_role("navigation", name="Parts of this page")
        expect(tabs.get_by_role("link")).to_have_text(parts)
        expect(page.get_by_role("region", name="What enlace check says")).to_contain_text(FINDING)
        tabs.get_by_role("link", name="Log").click()
        lines = page.get_by_role("list", name="Log").get_by_role("listitem")
        expect(lines.filter(has_text="with the code ")).not_to_have_count(0)
        page.get_by_label("Contains").fill("with the code")
        expect(lines).to_have_count(1)
        fits(page)
        tabs.get_by_role("link", name="Backup and support").click()
        backup = tmp_path / "backup.tar"
        fetch(page, "Backup", backup)
        with tarfile.open(backup) as archive:
            assert "enlace.db" in " ".join(archive.getnames())
        bundle = tmp_path / "bundle.zip"
        fetch(page, "Bundle for support", bundle)
        with zipfile.ZipFile(bundle) as zipped:
            assert any(name.endswith("summary.txt") for name in zipped.namelist())
    site.send("POST", f"{depot.url}/api/users", {"username": "luis", "password": "quite another one", "role": "viewer"})
    with rig.look(chromium, allowed=NOBODY) as page:
        page.goto(f"{depot.url}/#/system?tab=tools")
        page.get_by_label("User name").fill("luis")
        page.get_by_label("Password").fill("quite another one")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("region", name="Health")).to_be_visible()
        for part in ("What enlace check says", "Backup", "Bundle for support", "Log"):
            expect(page.get_by_role("region", name=part)).to_have_count(0)
        expect(page.get_by_role("navigation", name="Parts of this page")).to_have_count(0)
        page.goto(f"{depot.url}/#/devices/wall")
        expect(page.get_by_role("region", name="Values")).to_be_visible()
        expect(page.get_by_role("button", name="Test").or_(page.get_by_role("button", name="Change"))).to_have_count(0)


def fetch(page: Page, title: str, to: Path) -> None:
    """By the button of that box; the page says when it has arrived."""
    with page.expect_download(timeout=rig.PATIENCE_MS) as coming:
        page.get_by_role("region", name=title, exact=True).get_by_role("button", name="Make and download").click()
    coming.value.save_as(to)


def test_what_is_not_of_now_looks_so_until_it_is_again(chromium: Browser, place: Place) -> None:
    depot = place.depot
    with rig.look(chromium, allowed=f"{NOBODY}|{GONE}") as page, rig.look(chromium, allowed=f"{NOBODY}|{GONE}") as rows:
        for one, address in ((page, "devices/wall"), (rows, "stations")):
            rig.log_in(one, depot)
            one.goto(f"{depot.url}/#/{address}")
        value = page.get_by_role("link", name="power_w").locator("strong span")
        power = rows.get_by_role("listitem").filter(has_text="Wall").locator(".power")

        def look(*, stale: bool) -> None:
            for one in (value, power):
                if stale:
                    expect(one).to_have_class(STALE)
                else:
                    expect(one).not_to_have_class(STALE)
                    expect(one).to_contain_text("W")

        look(stale=False)
        place.charger_goes()
        look(stale=True)
        rig.shoot(rows, "stations-stale")
        place.charger_comes()
        look(stale=False)
        depot.stop()
        look(stale=True)
        expect(value).to_have_attribute("title", "old value")
        depot.start()
        look(stale=False)
