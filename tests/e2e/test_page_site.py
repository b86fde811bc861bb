"""The dashboard in a browser: a station follows its switch, an alarm is acknowledged, a chart is drawn and zoomed."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e import browser as rig
from tests.e2e.browser import Site

NOBODY = "401"
#: Compressed, of what a browser loads before the site is on the screen.
FIRST_LOAD_BYTES = 200_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with rig.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Site]:
    with rig.depot(tmp_path_factory.mktemp("depot")) as found:
        with rig.look(chromium) as page:
            rig.set_up(page, found)
        yield found


def test_the_first_load_is_small(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        sizes: dict[str, float] = {}
        network.on("Network.loadingFinished", lambda one: sizes.update({one["requestId"]: one["encodedDataLength"]}))
        rig.log_in(page, depot)
        page.locator("main .card").first.wait_for()
        assert len(sizes) > 5, "nothing was counted"
        assert sum(sizes.values()) < FIRST_LOAD_BYTES, sizes


def test_a_station_is_switched_off_and_follows_and_says_why(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/stations")
        switch = page.get_by_role("group", name="Switch Car park")
        expect(page.get_by_text("Charging").first).to_be_visible()
        switch.get_by_role("button", name="Off").click()
        expect(switch.get_by_role("button", name="Off")).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_text("0 W").first).to_be_visible()
        page.goto(f"{depot.url}/#/station/cp2")
        expect(page.locator("main")).to_contain_text("off by user ana")
        rig.shoot(page, "station-off")
        page.get_by_role("group", name="Switch Car park").get_by_role("button", name="On").click()
        expect(page.locator("main")).to_contain_text("on by user ana")
        expect(page.get_by_text("11.0 kW").first).to_be_visible()


def test_an_alarm_is_acknowledged_and_its_count_goes(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, size=rig.PHONE, language="es-ES", allowed=NOBODY) as page:
        rig.log_in(page, depot)
        expect(page.locator(".menu .count")).to_have_text("1")
        page.goto(f"{depot.url}/#/alarms")
        expect(page.get_by_text("The charger is there").first).to_be_visible()
        page.get_by_role("button", name="Reconocer", exact=True).first.click()
        expect(page.get_by_role("button", name="Reconocer", exact=True)).to_have_count(0)
        rig.shoot(page, "alarm-acknowledged-phone-es")


def _range(page: Page) -> str:
    return page.url.partition("#")[2]


def test_a_chart_of_a_signal_is_drawn_zoomed_and_shared_by_its_address(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/charts?signals=cp2.power_w")
        drawn = page.locator(".chart canvas").first
        expect(drawn).to_be_visible()
        before = _range(page)
        place = drawn.bounding_box()
        assert place is not None
        middle = place["y"] + place["height"] / 2
        page.mouse.move(place["x"] + place["width"] * 0.6, middle)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] - 1, middle, steps=5)  # to its end: all that is stored is of now
        page.mouse.up()
        expect(page).not_to_have_url(f"{depot.url}/#{before}")
        rig.shoot(page, "chart-zoomed")
        address = page.url
        page.goto(f"{depot.url}/#/site")
        page.goto(address)
        expect(page.locator(".chart canvas").first).to_be_visible()
        assert page.url == address


def test_a_finger_along_a_chart_zooms_and_one_down_it_scrolls(chromium: Browser, depot: Site) -> None:
    with rig.look(chromium, size=rig.PHONE, touch=True, allowed=NOBODY) as page:
        rig.log_in(page, depot)
        page.goto(f"{depot.url}/#/charts?signals=cp2.power_w")
        drawn = page.locator(".chart .u-over").first
        expect(drawn).to_be_visible()
        finger = page.context.new_cdp_session(page)

        def drag(across: float, down: float) -> None:
            """From the chart's middle, by so many CSS pixels; the speed is a hand's, so that it is no fling."""
            place = drawn.bounding_box()
            assert place is not None
            start = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
            finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [start]})
            for part in range(1, 11):
                point = {"x": start["x"] + across * part / 10, "y": start["y"] + down * part / 10}
                finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
            finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        before, scrolled = page.url, page.evaluate("scrollY")
        drag(0, -150)
        page.wait_for_function("before => scrollY > before + 20", arg=scrolled)
        assert page.url == before, "the page was scrolled, nothing was zoomed"
        width = (drawn.bounding_box() or {"width": 0})["width"]
        drag(width / 2 - 2, 0)
        expect(page).not_to_have_url(before)
        rig.shoot(page, "chart-zoomed-by-finger-phone")
        assert "from=" in page.url
