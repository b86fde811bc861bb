"""The dashboard in a browser: how one gets in, in both languages, on a phone, and when the gateway goes away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e import browser as rig
from tests.e2e import site
from tests.e2e.browser import Site

PAGES = (
    "site", "stations", "station/cp2", "battery", "devices", "alarms", "energy", "charts", "schedule", "maintenance",
    "system", "users", "account", "wizard",
)  # fmt: skip
#: The answer to "who am I" of who is nobody yet.
NOBODY = "401"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with rig.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Site]:
    """A site that was set up by the page."""
    with rig.depot(tmp_path_factory.mktemp("depot")) as found:
        with rig.look(chromium, size=rig.PHONE, language="es-MX") as page:
            page.goto(found.url)
            expect(page.get_by_role("heading", name="Configurar esta pasarela")).to_be_visible()
            rig.shoot(page, "set-up-phone-es")
            rig.set_up(page, found)
            expect(page).to_have_url(f"{found.url}/#/wizard")
        yield found


def test_a_wrong_password_is_refused_in_words_and_the_right_one_opens(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=f"{NOBODY}|429") as page:
        page.goto(depot.url)
        page.get_by_label("User name").fill(site.ADMIN)
        page.get_by_label("Password").fill("not that one")
        page.get_by_label("Password").press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Password").fill(site.PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator(".link.live")).to_be_visible()
        assert "enlace" not in page.evaluate("document.cookie"), "a script can read the log-in"
        page.reload()
        expect(page.locator(".frame")).to_be_visible()
        page.locator(".account summary").click()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_the_language_is_the_readers_and_is_kept(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, language="es-ES", allowed=NOBODY) as page:
        rig.log_in(page, depot)
        expect(page.get_by_role("navigation", name="Páginas")).to_contain_text("Mantenimiento")
        assert page.evaluate("document.documentElement.lang") == "es"
        page.locator(".account summary").click()
        page.get_by_label("Idioma").select_option("en")
        expect(page.get_by_role("navigation", name="Pages")).to_contain_text("Maintenance")
        page.reload()
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


def test_sentences_that_do_not_come_hold_up_nothing(chromium: Browser, depot: Site) -> None:
    asked: list[Route] = []  # and not answered while one looks
    with rig.look(chromium, language="es-ES", allowed=f"{NOBODY}|ERR_FAILED") as page:
        page.route("**/static/es-*.js", lambda route: asked.append(route))  # noqa: PLW0108 - wants a function
        page.goto(depot.url, wait_until="commit")
        expect(page.get_by_role("heading", name="Iniciar sesión")).to_be_visible()
        assert asked
        for one in asked:
            one.abort()  # else who waits for it is left behind


@pytest.mark.parametrize(("size", "dark"), [("phone", True), ("desk", False)])
def test_each_page_fits_and_axe_finds_nothing_serious(chromium: Browser, depot: Site, size: str, dark: bool) -> None:  # noqa: FBT001 - a parameter
    wide = {"phone": rig.PHONE, "desk": rig.DESK}[size]
    with rig.look(chromium, size=wide, dark=dark, language="es-ES" if dark else "en-GB", allowed=NOBODY) as page:
        rig.log_in(page, depot)
        found = []
        for name in PAGES:
            page.goto(f"{depot.url}/#/{name}")
            page.locator("main h1").first.wait_for()
            expect(page.get_by_text("Loading …").or_(page.get_by_text("Cargando …"))).to_have_count(0)
            rig.shoot(page, f"{name.replace('/', '-')}-{size}-{'dark-es' if dark else 'light-en'}")
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            found += [f"{name}: {over} px wider than the screen"] if over > 0 else []
            found += [f"{name}: {one}" for one in rig.violations(page)]
        assert not found, "\n".join(found)


def test_the_keyboard_reaches_the_page_and_the_menu(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.reload()
        page.locator("main h1").first.wait_for()
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the page")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.get_by_role("link", name="Users").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Users", level=1)).to_be_visible()
        expect(page.get_by_role("link", name="Users")).to_have_attribute("aria-current", "page")


def test_a_lost_connection_shows_and_heals(chromium: Browser, tmp_path: Path) -> None:
    with rig.depot(tmp_path) as depot, rig.look(chromium, allowed=f"{NOBODY}|ERR_|Failed to fetch") as page:
        rig.set_up(page, depot)
        page.goto(f"{depot.url}/#/site")
        expect(page.locator(".link.live")).to_be_visible()
        depot.stop()
        expect(page.get_by_role("alert").get_by_text("no connection to the gateway")).to_be_visible()
        rig.shoot(page, "no-connection")
        depot.start()
        expect(page.locator(".link.live")).to_be_visible()
        expect(page.get_by_text("no connection to the gateway")).to_have_count(0)


def test_users_come_and_go_and_a_viewer_sees_no_levers(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/users")
        page.get_by_role("button", name="Add a user").click()
        page.get_by_label("User name").fill("luis")
        page.get_by_label("Password").fill("short")
        page.get_by_role("dialog").get_by_role("button", name="Save").click()
        page.get_by_label("Password").fill("quite another one")
        page.get_by_role("dialog").get_by_role("button", name="Save").click()
        expect(page.get_by_role("cell", name="luis", exact=True)).to_be_visible()
        with rig.look(chromium, allowed=NOBODY) as other:
            _log_in_as(other, depot, "luis", "quite another one")
            expect(other.get_by_role("navigation", name="Pages")).not_to_contain_text("Users")
            other.goto(f"{depot.url}/#/schedule")
            expect(other.get_by_text("night_off")).to_be_visible()
            expect(other.get_by_role("button", name="Run now")).to_have_count(0)
        page.get_by_role("button", name="Remove: luis").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(page.get_by_role("cell", name="luis", exact=True)).to_have_count(0)


def _log_in_as(page: Page, depot: Site, name: str, password: str) -> None:
    page.goto(depot.url)
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.locator(".frame").wait_for()


def test_a_schedule_is_run_and_an_event_programmed(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/schedule")
        page.get_by_role("row", name="night_off").get_by_role("button", name="Run now").click()
        expect(page.get_by_role("row", name="night_off")).to_contain_text("done")
        page.get_by_role("button", name="New event").click()
        page.get_by_label("Name").fill("Grid works")
        page.get_by_label("What").select_option("limit")
        page.get_by_label("Limit in A").fill("10")
        page.get_by_role("dialog").get_by_role("button", name="Save").click()
        row = page.get_by_role("row", name="Grid works")
        expect(row).to_contain_text("All stations: at most 10 A")
        row.get_by_role("button", name="Start now").click()
        expect(row).to_contain_text("in progress")
        row.get_by_role("button", name="Finish now").click()
        expect(row).to_contain_text("completed")


def test_maintenance_is_written_down_and_corrected(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/maintenance")
        page.get_by_role("button", name="Write down", exact=True).first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("What was done").fill("Contactor replaced")
        dialog.get_by_label("Cost").fill("180.5")
        dialog.get_by_label("Currency").fill("eur")
        dialog.get_by_role("button", name="Save").click()
        row = page.get_by_role("region", name="Log").get_by_role("row", name="Contactor replaced")
        expect(row).to_contain_text("180.50 EUR")
        row.get_by_role("button", name="Correct").click()
        dialog.get_by_label("What was done").fill("Contactor and coil replaced")
        dialog.get_by_role("button", name="Save").click()
        expect(page.get_by_role("region", name="Log")).to_contain_text("Contactor and coil replaced")
        expect(page.get_by_role("region", name="Log")).to_contain_text("corrected")
