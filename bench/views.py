"""How long until a browser that has never been here shows the page, beside a page of plain text from the same server.

Each view is in a Chromium of its own, started anew with a new profile: nothing is kept from before, neither files nor
fonts nor processes. The two pages take turns, so that other work on the machine meets both; the ratio is taken within
a round. Times are the browser's own (Paint Timing: from the navigation's start to the first pixels, and to the first
pixels of text or pictures).
"""

from __future__ import annotations

import shutil
import statistics
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright

from support.chromium import SWITCHES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.async_api import BrowserType

ROUNDS = 15
#: The page, and a file that is shown as it is: less than that no browser has to do.
PAGE, PLAIN = "/", "/page.css"
_PAINTED = """() => new Promise((done) => new PerformanceObserver((list) => {
  if (list.getEntriesByName("first-contentful-paint").length)
    done(["first-paint", "first-contentful-paint"].map((name) => performance.getEntriesByName(name)[0].startTime));
}).observe({ type: "paint", buffered: true }))"""


async def first_views_in_chromium(port: int) -> None:
    """Say when something, and when text, is first seen of a page that is served on this port of loopback."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("first view in Chromium: not measured, there is no program chromium: install the package chromium")
        return
    seen: dict[str, list[tuple[float, float]]] = {PAGE: [], PLAIN: []}
    async with async_playwright() as playwright:
        for _ in range(ROUNDS):
            for path, times in seen.items():
                times.append(await _view(playwright.chromium, chromium, f"http://127.0.0.1:{port}{path}"))
    print(f"first view in Chromium, {ROUNDS} rounds, each in a new profile; {PLAIN} as plain text beside {PAGE}")
    for name, at in (("first paint", 0), ("first contentful paint", 1)):
        page, plain = ([times[at] for times in seen[path]] for path in (PAGE, PLAIN))
        ratios = [each / other for each, other in zip(page, plain, strict=True)]
        print(f"… {name}: {_spread(page)} ms, plain text {_spread(plain)} ms; {_spread(ratios, 1)} times as long")


async def _view(kind: BrowserType, chromium: str, address: str) -> tuple[float, float]:
    """Give the milliseconds to the first paint and to the first contentful one, in a browser that is begun for it."""
    browser = await kind.launch(executable_path=chromium, args=SWITCHES)
    try:
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(address)
        first, contentful = await page.evaluate(_PAINTED)
        return first, contentful
    finally:
        await browser.close()


def _spread(values: Sequence[float], digits: int = 0) -> str:
    """Give a median with the least and the most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"
