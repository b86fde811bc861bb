"""The dashboard: bytes of the first load, and how soon it can be used on loopback, with nothing kept by the browser.

Time is from the address to the site's first card on the screen, of who is logged in already.
"""

import statistics
import tempfile
from pathlib import Path

from tests.e2e import browser as rig

LOADS = 7
TARGET_S, TARGET_BYTES = 1.0, 200_000


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as folder, rig.depot(Path(folder)) as depot, rig.chromium() as browser:
        context = browser.new_context(viewport=rig.DESK)
        page = context.new_page()
        rig.set_up(page, depot)
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        network.send("Network.setCacheDisabled", {"cacheDisabled": True})
        sizes: dict[str, float] = {}
        network.on("Network.loadingFinished", lambda one: sizes.update({one["requestId"]: one["encodedDataLength"]}))
        found = []
        for _ in range(LOADS):
            page.goto("about:blank")
            sizes.clear()
            page.goto(f"{depot.url}/#/site", wait_until="commit")
            page.locator("main .card").first.wait_for()
            found.append(page.evaluate("performance.now()") / 1000)
        seconds = statistics.median(found)
        sent = sum(sizes.values())
        print(f"first load: {sent / 1000:.0f} kB compressed, {TARGET_BYTES / sent:.1f} times below the target")
        print(f"usable after {seconds:.2f} s (of {LOADS}: {min(found):.2f} to {max(found):.2f}); target {TARGET_S} s")
        context.close()


if __name__ == "__main__":
    main()
