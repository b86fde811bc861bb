"""The dashboard in a browser, where things are not as planned: a slip of the keyboard, a clock that is off, a role that
was changed meanwhile, a gateway that is away, more of everything than fits one page.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from tests.e2e import browser as rig
from tests.e2e import site
from tests.e2e.browser import Site
from tests.ports import free_port

#: The answer to "who am I" of who is nobody yet.
NOBODY = "401"
TABLET: ViewportSize = {"width": 768, "height": 1024}
ALARMS, SCHEDULES = 120, 105
LUIS = "quite another one"
#: Words of table cells that are broken over lines: the cell is narrower than its longest word.
BROKEN = """() => [...document.querySelectorAll('main td')].flatMap((cell) => {
  const found = [], texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), part = document.createRange();
  while (texts.nextNode()) {
    const text = texts.currentNode;
    for (const word of text.data.matchAll(/[^\\s-]+/g)) {
      part.setStart(text, word.index);
      part.setEnd(text, word.index + word[0].length);
      if (new Set([...part.getClientRects()].map((one) => one.top)).size > 1) found.push(word[0]);
    }
  }
  return found;
})"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with rig.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Site]:
    """A site of which much is more than a page of a list."""
    folder = tmp_path_factory.mktemp("depot")
    found = Site(folder)
    config = rig.CONFIG.format(folder=folder, api=found.api, modbus=found.modbus, ocpp=free_port())
    alarms = [f'  - {{id: a{n}, when: "cp2.power_w > -1", severity: warning, text: No {n}}}' for n in range(1, ALARMS)]
    plans = [f'  - {{id: s{n}, cron: "0 21 * * *", then: [{{station: cp2, set: "off"}}]}}' for n in range(1, SCHEDULES)]
    config = config.replace("schedules:", "\n".join([*alarms, "schedules:", *plans]))
    found.config.write_text(config)
    with site.process("drivers.sim.charger_modbus", "--port", str(found.modbus), log=folder / "charger.log"):
        try:
            found.start()
            with rig.look(chromium) as page:
                rig.set_up(page, found)
            yield found
        finally:
            found.stop()


def call(page: Page, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Ask the gateway as the page's user."""
    return page.evaluate(
        """async ([method, path, body]) => {
          const headers = {'x-enlace-csrf': '1', ...(body === null ? {} : {'content-type': 'application/json'})};
          const answer = await fetch(path, {method, headers, ...(body === null ? {} : {body: JSON.stringify(body)})});
          if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
          return answer.status === 204 ? null : answer.json();
        }""",
        [method, path, body],
    )


@contextlib.contextmanager
def luis(page: Page, chromium: Browser, depot: Site, role: str, allowed: str = NOBODY) -> Iterator[Page]:
    """Another user in another browser, who goes again."""
    call(page, "POST", "/api/users", {"username": "luis", "password": LUIS, "role": role})
    try:
        with rig.look(chromium, allowed=allowed) as other:
            other.goto(depot.url)
            fill_in(other, "luis", LUIS)
            yield other
    finally:
        call(page, "DELETE", "/api/users/luis")


def fill_in(page: Page, name: str, password: str) -> None:
    page.locator("[name=username]").fill(name)
    page.locator("[name=password]").fill(password)
    page.locator("form button.main").click()
    page.locator(".frame").wait_for()


def test_a_limit_that_is_no_number_is_refused_and_the_one_before_stays(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=f"{NOBODY}|422") as page:
        rig.log_in(page, depot)
        call(page, "PATCH", "/api/site", {"import_limit_a": 63})
        page.goto(f"{depot.url}/#/wizard/site")
        limit = page.locator("[name=import_limit_a]")
        expect(limit).to_have_value("63")
        limit.fill("6O A")
        page.get_by_role("button", name="Save and go on").click()
        expect(page.get_by_role("alert").first).to_be_visible()
        expect(limit).to_have_attribute("aria-invalid", "true")
        assert call(page, "GET", "/api/site")["import_limit_a"] == 63
        limit.fill("62,5")
        page.get_by_role("button", name="Save and go on").click()
        expect(page).to_have_url(f"{depot.url}/#/wizard/devices")
        assert call(page, "GET", "/api/site")["import_limit_a"] == 62.5


def test_who_lost_a_role_meanwhile_is_offered_no_more_of_it(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        with luis(page, chromium, depot, "operator", f"{NOBODY}|403") as other:
            other.goto(f"{depot.url}/#/stations")
            off = other.get_by_role("group", name="Switch Car park").get_by_role("button", name="Off")
            expect(off).to_be_visible()
            call(page, "PATCH", "/api/users/luis", {"role": "viewer"})
            off.click()
            expect(other.get_by_text("luis is viewer")).to_be_visible()
            expect(off).to_have_count(0)
            other.goto(f"{depot.url}/#/battery")
            expect(other.get_by_text("no battery that tells its charge")).to_be_visible()
            expect(other.get_by_role("link", name="Add one")).to_have_count(0)


def test_a_tab_knows_who_logged_in_in_another_one(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        call(page, "POST", "/api/users", {"username": "luis", "password": LUIS, "role": "viewer"})
        expect(page.locator(".menu")).to_contain_text("Users")
        # The other tab logs in, which this one is not told; then somebody looks at this one again.
        call(page, "POST", "/api/auth/login", {"username": "luis", "password": LUIS, "cookie": True})
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator(".account summary")).to_contain_text("luis")
        expect(page.locator(".menu")).not_to_contain_text("Users")
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        call(page, "DELETE", "/api/users/luis")


def test_who_sets_up_second_is_asked_to_log_in(chromium: Browser, tmp_path: Path) -> None:
    with rig.depot(tmp_path) as depot, rig.look(chromium) as page, rig.look(chromium, allowed=f"{NOBODY}|409") as other:
        other.goto(depot.url)
        other.locator("[name=code]").fill(depot.code())
        rig.set_up(page, depot)
        other.locator("[name=username]").fill("eva")
        other.locator("[name=password]").fill(site.PASSWORD)
        other.locator("[name=again]").fill(site.PASSWORD)
        other.locator("form button.main").click()
        expect(other.get_by_role("heading", name="Log in")).to_be_visible()
        expect(other.get_by_text("that was done already")).to_be_visible()
        fill_in(other, site.ADMIN, site.PASSWORD)
        expect(other.get_by_role("heading", name="Set-up")).to_be_visible()


def test_who_logs_out_of_a_gateway_that_is_away_is_told_that_it_failed(chromium: Browser, tmp_path: Path) -> None:
    with rig.depot(tmp_path) as depot, rig.look(chromium, allowed=f"{NOBODY}|ERR_|Failed to fetch") as page:
        rig.set_up(page, depot)
        page.locator(".account summary").click()
        depot.stop()
        page.get_by_role("button", name="Log out").click()
        expect(page.locator(".toast.bad")).to_contain_text("no connection")
        expect(page.locator(".frame")).to_be_visible()
        depot.start()
        expect(page.locator(".link.live")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_an_answer_that_does_not_come_in_time_is_said_to_be_late(chromium: Browser, depot: Site) -> None:
    held: list[Route] = []
    with rig.look(chromium, language="es-ES", allowed=f"{NOBODY}|ERR_FAILED") as page:
        page.add_init_script("AbortSignal.timeout = (real => () => real.call(AbortSignal, 100))(AbortSignal.timeout)")
        page.route("**/api/auth/setup", lambda route: route.fulfill(json={"needed": False}))
        page.route("**/api/auth/me", lambda route: route.fulfill(status=401, json={}))
        page.route("**/api/auth/login", lambda route: held.append(route))  # noqa: PLW0108 - wants a function
        page.goto(depot.url)
        page.locator("[name=username]").fill(site.ADMIN)
        page.locator("[name=password]").fill(site.PASSWORD)
        page.locator("form button.main").click()
        expect(page.get_by_role("alert")).to_have_text("sin respuesta a tiempo")
        assert held
        for one in held:
            one.abort()  # else who waits for it is left behind


def test_a_chart_goes_up_to_the_gateways_now_on_a_device_whose_clock_is_off(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        page.add_init_script("{ const real = Date.now; Date.now = () => real() + 2 * 86_400_000; }")
        rig.log_in(page, depot)
        expect(page.locator(".link.live")).to_be_visible()
        page.goto(f"{depot.url}/#/charts?signals=cp2.power_w&last=3600")
        expect(page.locator(".chart canvas")).to_be_visible()
        page.reload()  # the first question is asked before the gateway's time is known
        expect(page.locator(".chart canvas")).to_be_visible()
        page.goto(f"{depot.url}/#/station/cp2")
        expect(page.locator(".chart canvas")).to_be_visible()


def test_a_page_that_a_cut_line_kept_back_comes_by_itself_or_with_all_anew(chromium: Browser, depot: Site) -> None:
    cut = True

    def line(route: Route) -> None:
        if cut:
            route.abort()
        else:
            route.continue_()

    with rig.look(chromium, allowed=f"{NOBODY}|ERR_FAILED") as page:
        rig.log_in(page, depot)
        page.route(re.compile(r"/static/(maintenance|schedule)-.*\.js"), line)
        page.goto(f"{depot.url}/#/maintenance")
        expect(page.get_by_role("alert").get_by_text("tried again by itself")).to_be_visible()
        cut = False
        expect(page.get_by_role("heading", name="Maintenance", level=1)).to_be_visible()
        cut = True
        page.goto(f"{depot.url}/#/schedule")
        page.evaluate("window.before = true")
        page.get_by_role("button", name="Load all anew").click()
        page.wait_for_function("!window.before")
        cut = False
        expect(page.get_by_role("heading", name="Schedule and events")).to_be_visible()


def test_no_address_hangs_the_page(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/charts?signals=cp2.power_w&last=1e15")
        expect(page.locator(".chart canvas")).to_be_visible()
        page.goto(f"{depot.url}/#/station")
        expect(page.get_by_role("alert").get_by_text("There is no station")).to_be_visible()


def test_a_page_that_fails_says_so_and_the_others_go_on(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.route("**/api/stations/cp2", lambda route: route.fulfill(json={"name": "Half of an answer"}))
        page.goto(f"{depot.url}/#/station/cp2")
        expect(page.get_by_role("alert").get_by_text("This page failed")).to_be_visible()
        page.get_by_role("link", name="Stations", exact=True).click()
        expect(page.get_by_role("heading", name="Stations", level=1)).to_be_visible()
        expect(page.get_by_text("This page failed")).to_have_count(0)


def test_the_account_menu_closes_by_escape_and_does_not_stand_over_its_page(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, size=rig.PHONE, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        opener = page.locator(".account summary")
        inside = page.get_by_label("Language")
        opener.click()
        inside.focus()
        page.keyboard.press("Escape")
        expect(inside).to_be_hidden()
        expect(opener).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_role("link", name=re.compile("^ana")).click()
        expect(page.get_by_role("heading", name="Account", level=1)).to_be_visible()
        expect(inside).to_be_hidden()


def test_who_closes_a_dialog_by_saving_goes_on_where_it_was_opened(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/schedule")
        opener = page.get_by_role("button", name="New event")
        expect(opener).to_be_enabled()
        opener.focus()
        page.keyboard.press("Enter")
        page.get_by_label("Name").fill("Saved by the keyboard")
        page.keyboard.press("Enter")
        row = page.get_by_role("row", name="Saved by the keyboard")
        expect(row).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(opener).to_be_focused()
        row.get_by_role("button", name="Call off").click()
        expect(row).to_contain_text("cancelled")
        expect(row.get_by_role("button")).to_have_count(0)


def test_an_event_in_progress_gets_another_end_though_its_start_has_seconds(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        then = [{"station": "*", "limit_a": 10}]
        plan = {"name": "Works", "start": "2099-05-01T10:00:30Z", "end": "2099-05-01T12:00:45Z", "then": then}
        event = call(page, "POST", "/api/events", plan)
        call(page, "POST", f"/api/events/{event['id']}/start")
        page.goto(f"{depot.url}/#/schedule")
        page.get_by_role("row", name="Works").get_by_role("button", name="Change").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("To", exact=True).fill("2099-05-01T16:00")
        dialog.get_by_role("button", name="Save").click()
        expect(dialog).to_have_count(0)
        changed = call(page, "GET", f"/api/events/{event['id']}")
        assert (changed["start"], changed["end"]) == (event["start"], "2099-05-01T14:00:00.000000Z"), (
            "Madrid is 2 h ahead"
        )
        row = page.get_by_role("row", name="Works")
        row.get_by_role("button", name="Finish now").click()
        expect(row).to_contain_text("completed")
        expect(row.get_by_role("button")).to_have_count(0)  # what is over can't be called off


def test_a_correction_leaves_the_entry_at_its_time(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        when = "2026-01-15T15:20:30.000000Z"
        entry = {"machine": "cp2", "kind": "corrective", "description": "Plug cleened", "date": when}
        call(page, "POST", "/api/maintenance", entry)
        page.goto(f"{depot.url}/#/maintenance")
        page.get_by_role("button", name="Correct: Plug cleened").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("What was done").fill("Plug cleaned")
        dialog.get_by_role("button", name="Save").click()
        expect(page.get_by_role("region", name="Log")).to_contain_text("Plug cleaned")
        found = call(page, "GET", "/api/maintenance?machine=cp2")["items"]
        assert [one["date"] for one in found if one["description"] == "Plug cleaned"] == [when]


def test_more_than_a_hundred_are_counted_and_listed(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        expect(page.locator(".menu .count")).to_have_text(str(ALARMS))
        expect(page.get_by_role("heading", name=f"{ALARMS} open alarms")).to_be_visible()
        page.goto(f"{depot.url}/#/schedule")
        expect(page.get_by_role("button", name="Run now")).to_have_count(SCHEDULES)


def test_what_is_due_has_pages_and_no_table_breaks_its_words(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, size=TABLET, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        for n in range(20):
            machine = {"code": f"pump{n}", "name": f"Circulation pump of the western wing {n}", "type": "charger"}
            call(page, "POST", "/api/machines", machine)
        total = call(page, "GET", "/api/maintenance/due?page_size=1")["total"]
        assert total > 50
        page.goto(f"{depot.url}/#/maintenance")
        due = page.get_by_role("region", name="What is due")
        rows = due.get_by_role("button", name=re.compile("^Write down"))
        expect(rows).to_have_count(50)
        assert page.evaluate(BROKEN) == []
        due.get_by_role("button", name="2 / 2").click()
        expect(rows).to_have_count(total - 50)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0
        for plan in ("RCD test", "Electrical test", "Visual inspection"):  # the second page goes while one looks at it
            page.get_by_role("button", name=f"Turn off: {plan}").click()
            expect(page.get_by_role("button", name=f"Turn on: {plan}")).to_be_visible()
        left = call(page, "GET", "/api/maintenance/due?page_size=1")["total"]
        assert 0 < left <= 50
        expect(rows).to_have_count(left)
