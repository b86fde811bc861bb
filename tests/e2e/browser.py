"""The dashboard in a real browser: Debian's Chromium, headless, driven by Playwright; and a gateway to look at.

Chromium is what the machine has (``.ci/run`` installs it); without it these tests skip visibly. Screenshots go to
``build/screenshots``, which git ignores. Whatever the page logs as an error fails the test that saw it.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from tests.e2e import site
from tests.ports import free_port

SHOTS = site.ROOT / "build" / "screenshots"
AXE = site.ROOT / "agent" / "web" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = int(os.environ.get("ENLACE_PATIENCE_MS", "60000"))
PHONE: ViewportSize = {"width": 360, "height": 740}
DESK: ViewportSize = {"width": 1280, "height": 900}

CONFIG = """\
# The installer's own words, which no tool of ours may lose.
data_dir: {folder}/data
site: {{id: depot, name: Depot 7, timezone: Europe/Madrid}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}"}}
devices:
  - {{id: cp2, name: Car park, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{modbus}", every_s: 0.5}}
stations:
  - {{station: cp2, min_on_s: 0, min_off_s: 0}}
alarm_sets: []
alarms:
  - {{id: seen, when: "cp2.power_w > -1", severity: critical, latch: true, text: The charger is there}}
schedules:
  - {{id: night_off, cron: "0 22 * * *", then: [{{station: cp2, set: "off"}}]}}
"""


def find_chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium: the page is not tried in a browser")
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Site:
    """A gateway with one charger; ``restart`` ends it and starts it again at the same address."""

    folder: Path
    api: int = field(default_factory=free_port)
    modbus: int = field(default_factory=free_port)
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api}"

    @property
    def config(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    def code(self) -> str:
        site.wait_until(lambda: "with the code " in self.log.read_text(), "the set-up code")
        found: str = re.findall(r"with the code (\S+)", self.log.read_text())[-1]
        return found

    def start(self) -> None:
        if not self.config.exists():
            ports = {"api": self.api, "modbus": self.modbus, "ocpp": free_port()}
            self.config.write_text(CONFIG.format(folder=self.folder, **ports))
        self.running.enter_context(site.process("agent", "run", "--config", str(self.config), log=self.log))
        site.wait_until(lambda: site.answers(f"{self.url}/api/auth/setup"), "the gateway answers")

    def stop(self) -> None:
        self.running.close()


@contextlib.contextmanager
def depot(folder: Path) -> Iterator[Site]:
    """The site with its charger, which runs on when the gateway is ended."""
    found = Site(folder)
    with site.process("drivers.sim.charger_modbus", "--port", str(found.modbus), log=folder / "charger.log"):
        try:
            found.start()
            yield found
        finally:
            found.stop()


@contextlib.contextmanager
def look(
    browser: Browser,
    *,
    size: ViewportSize = DESK,
    language: str = "en-GB",
    dark: bool = False,
    touch: bool = False,
    zone: str = "UTC",
    allowed: str = "",
) -> Iterator[Page]:
    """A page of a browser of its own, with nothing kept. ``allowed``: what the page may log as an error here."""
    context: BrowserContext = browser.new_context(
        viewport=size,
        locale=language,
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        timezone_id=zone,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    said: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        where = message.location["url"]
        if message.type == "error" and not (allowed and re.search(allowed, message.text)):
            said.append(f"{message.text} {where}")

    page.on("console", heard)
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert not said, said


def set_up(page: Page, depot: Site) -> None:
    """The first user, by the page."""
    page.goto(depot.url)
    page.locator("[name=code]").fill(depot.code())
    page.locator("[name=username]").fill(site.ADMIN)
    page.locator("[name=password]").fill(site.PASSWORD)
    page.locator("[name=again]").fill(site.PASSWORD)
    page.locator("form button.main").click()
    page.locator(".frame").wait_for()


def log_in(page: Page, depot: Site) -> None:
    page.goto(depot.url)
    page.locator("[name=username]").fill(site.ADMIN)
    page.locator("[name=password]").fill(site.PASSWORD)
    page.locator("form button.main").click()
    page.locator(".frame").wait_for()


def shoot(page: Page, name: str) -> None:
    """Keep a picture for people."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


def violations(page: Page) -> list[str]:
    """What axe finds of serious and critical faults against WCAG 2.2 A and AA."""
    if not page.evaluate("() => Boolean(window.axe)"):
        # As a test tool, past the page's own policy, which lets no foreign script in.
        page.evaluate(AXE.read_text() + "\n;undefined")
    found = page.evaluate(
        """async () => (await axe.run(document, {runOnly: {type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a',
        'wcag21aa', 'wcag22aa', 'best-practice']}})).violations"""
    )
    return [
        f"{one['id']} ({one['impact']}): {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
