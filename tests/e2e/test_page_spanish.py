"""The Spanish page of the demo, with each of its faults: no sentence of the gateway is left in English.

What people wrote, names, and what stands in code (entries, conditions, the ledger's own records) may be in any
language. The page is looked at from another time zone than the site's: it says so, and shows the site's time.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from agent.cli.demo_script import FAULTS
from tests.e2e import browser as rig
from tests.e2e import site, test_demo

pytestmark = test_demo.pytestmark

STATIONS = ("station/cp1", "station/cp2", "station/cp3")
ALARMS = ("alarms", "alarms?tab=all", "alarms?tab=history")
SYSTEM = ("system", "system?tab=storage", "system?tab=ledger", "system?tab=tools")
USE = ("energy", "charts", "devices", "schedule", "maintenance", "users", "account", "wizard", "wizard/devices")
PAGES = ("site", "stations", *STATIONS, "battery", *ALARMS, *SYSTEM, *USE)
TOUCHED = ("site", *STATIONS, "battery", "alarms", "alarms?tab=history", "devices", "system")
#: Words of each English sentence of some length, and of no Spanish one.
ENGLISH = re.compile(
    r"\b(the|is|are|was|not|its?|of|and|with|this|that|has|have|be|to|from|by|at|than|until|since|what|who|there)\b",
    re.IGNORECASE,
)
#: Titles of device models, as their makers write them; the page without JavaScript; a unit of measurement.
OWN = re.compile(r"Modbus|^This page needs JavaScript|https?://|enlace \w+|\bat\b:")
#: What the page shows as text and tells those who can't see it, but for code and what is typed.
TEXTS = """() => {
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const { parentElement, textContent } = walk.currentNode;
    if (!parentElement.closest('script, noscript, style, pre, code, option')) found.add(textContent.trim());
  }
  for (const name of ['title', 'aria-label', 'placeholder'])
    for (const one of document.querySelectorAll(`[${name}]`)) found.add(one.getAttribute(name));
  return [...found];
}"""
TOLD = re.compile("battery1 ha dejado de comunicar sus valores|No se oye nada de battery1")
#: Refusals that are meant: before the log-in, of signals that a charger does not have, of a name.
EXPECTED = "40[149]|422|50[03]"
SETTLE_MS = 1200
TOGETHER = 7


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with rig.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[test_demo.Demo]:
    """One demo for all faults. Without a browser nothing is started."""
    with test_demo.demo(tmp_path_factory.mktemp("spanish")) as one:
        site.wait_until(one.is_well, "every counterpart is there")
        one.stop_the_scenario()
        yield one


def english(page: Page, url: str, places: tuple[str, ...] | list[str]) -> list[str]:
    """What is left in English on these pages, all that folds opened."""
    left: list[str] = []
    for place in places:
        page.goto(f"{url}/#/{place}")
        expect(page.locator("main h1").first).to_be_visible()
        page.wait_for_timeout(SETTLE_MS)
        page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        page.wait_for_timeout(SETTLE_MS // 4)
        texts = page.evaluate(TEXTS)
        left += [f"{place}: {text}" for text in texts if ENGLISH.search(text) and not OWN.search(text)]
    return left


@pytest.fixture
def page(chromium: Browser, running: test_demo.Demo) -> Iterator[Page]:
    with rig.look(chromium, language="es-ES", zone="Asia/Tokyo", allowed=EXPECTED) as one:
        rig.log_in(one, rig.Site(running.log.parent, api=int(running.url.rpartition(":")[2])))
        yield one


def test_no_page_of_a_well_site_has_an_english_sentence(page: Page, running: test_demo.Demo) -> None:
    assert not (left := english(page, running.url, PAGES)), "\n".join(left)


def test_times_are_the_sites_and_that_is_said(page: Page, running: test_demo.Demo) -> None:
    page.goto(f"{running.url}/#/system")
    expect(page.get_by_text("Las horas son las del sitio (UTC)")).to_be_visible()
    shown = page.locator("main dl.facts dd").filter(has_text=re.compile(r"^\d{1,2}:\d\d:\d\d$")).first
    hour = int(running.get("/api/system/health")["time"][11:13])
    expect(shown).to_have_text(re.compile(rf"^0?({hour}|{(hour + 1) % 24}):"))


@pytest.mark.long
def test_no_fault_of_the_demo_is_told_in_english(page: Page, running: test_demo.Demo) -> None:
    faults = [one.id for one in FAULTS if not one.hidden]
    left: list[str] = []
    for first in range(0, len(faults), TOGETHER):
        some = faults[first : first + TOGETHER]
        running.switch(some, active=True)
        page.wait_for_timeout(40_000)
        devices = [f"devices/{one['id']}" for one in running.get("/api/devices")["items"]]
        left += english(page, running.url, [*TOUCHED, *devices])
        running.switch(some, active=False)
    assert not left, "\n".join(left)


def test_a_fault_and_a_refusal_are_told_in_spanish(page: Page, running: test_demo.Demo) -> None:
    running.switch(["battery_silent", "cp2_mute"], active=True)
    page.goto(f"{running.url}/#/alarms")
    expect(
        page.get_by_text(re.compile("battery1 ha dejado de comunicar sus valores|No se oye nada de battery1")).first
    ).to_be_visible()
    left = english(page, running.url, TOUCHED)
    running.switch(["battery_silent", "cp2_mute"], active=False)
    assert not left, "\n".join(left)
    page.goto(f"{running.url}/#/users")
    page.get_by_role("button", name="Añadir").first.click()
    dialog = page.get_by_role("dialog")
    dialog.locator("[name=username]").fill("berta ñ")
    dialog.locator("[name=password]").fill(site.PASSWORD)
    dialog.locator("button.main").click()
    expect(dialog.get_by_role("alert")).to_contain_text("el nombre no se puede usar")
