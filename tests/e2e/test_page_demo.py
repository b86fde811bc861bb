"""``enlace demo`` in a browser: what happens is told, and a fault that a button switches on shows until it heals."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from agent.cli.demo_script import FAULTS, STEPS
from tests.e2e import browser as rig
from tests.e2e import site, test_demo
from tests.e2e.browser import Site

pytestmark = test_demo.pytestmark

NOBODY = "401"
STALE = re.compile(r"\bstale\b")
FAULT = "battery_silent"
#: The warning after seconds, and the critical alarm after a minute.
TOLD = re.compile("battery1 has stopped telling its values|Nothing is heard of battery1")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with rig.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Site]:
    """The gateway of one demo, whose counterparts are all there. Without a browser nothing is started."""
    folder = tmp_path_factory.mktemp("demo")
    with test_demo.demo(folder) as one:
        site.wait_until(one.is_well, "every counterpart is there")
        yield Site(folder, api=int(one.url.rpartition(":")[2]))


def open_panel(page: Page, depot: Site) -> None:
    rig.log_in(page, depot)
    page.goto(f"{depot.url}/#/site")
    page.locator("details.demo summary").click()


def test_the_panel_tells_the_step_and_stops_the_scenario(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, size=rig.PHONE, language="es-ES", dark=True, allowed=NOBODY) as page:
        open_panel(page, depot)
        panel = page.get_by_role("complementary", name="Demostración")
        steps = panel.get_by_role("list", name="Pasos del guion").get_by_role("listitem")
        expect(steps).to_have_count(len(STEPS))
        expect(panel.locator(".scene")).to_contain_text(
            re.compile("|".join(re.escape(one.text["es"]) for one in STEPS))
        )
        expect(panel.locator("[aria-current=step]")).to_have_count(1)
        shown = panel.locator(".faults > li")
        expect(shown).to_have_count(len([one for one in FAULTS if not one.hidden]))
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{over} px wider than the screen"
        assert not (found := rig.violations(page)), "\n".join(found)
        rig.shoot(page, "demo-phone-dark-es")
        panel.get_by_role("button", name="Parar el guion").click()
        expect(panel.locator(".scene")).to_contain_text("El guion está parado.")
        expect(steps).to_have_count(0)
        panel.get_by_role("button", name="Iniciar el guion").click()
        expect(panel.locator(".scene")).to_contain_text(STEPS[0].text["es"])


def test_a_fault_shows_on_the_page_until_it_is_put_right(chromium: Browser, depot: Site) -> None:
    (title,) = [one.title["en"] for one in FAULTS if one.id == FAULT]
    with rig.look(chromium, allowed=NOBODY) as page:
        open_panel(page, depot)
        panel = page.get_by_role("complementary", name="Demo")
        figure = page.get_by_role("region", name="Simulated battery").locator(".figure").first
        alarms = page.get_by_role("region", name="open alarm")
        panel.get_by_role("button", name="Stop the scenario").click()
        expect(panel.locator(".scene")).to_contain_text("The scenario stands still.")
        expect(figure).to_contain_text("%")
        expect(figure).not_to_have_class(STALE)
        panel.get_by_role("button", name=f"Let it happen: {title}").click()
        expect(panel.locator("summary")).to_contain_text("1 on")
        expect(alarms).to_contain_text(TOLD)
        expect(figure).to_have_class(STALE)
        assert not (found := rig.violations(page)), "\n".join(found)
        rig.shoot(page, "demo-battery-silent")
        panel.get_by_role("button", name=f"Put it right: {title}").click()
        expect(panel.locator("summary")).not_to_contain_text("1 on")
        expect(figure).not_to_have_class(STALE)
        expect(figure).to_contain_text(re.compile(r"\d"))
        expect(alarms.filter(has_text=TOLD)).to_have_count(0)
