"""How long until a browser that has never been here shows the page, beside a page of plain text from the same server.

Each view is in a Chromium of its own, started anew with a new profile: nothing is kept from before, neither files nor
fonts nor processes, and the browser's own start goes on meanwhile. The two pages take turns, so that other work on the
machine meets both; the ratio is taken within a round. Times are from the navigation's start: to the first pixels and to
the first pixels of text or pictures (the browser's own Paint Timing), and to the frame after the one in which the first
orders were laid out, since the verdict comes first.
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
PAGE, PLAIN = "/", "/live.js"
_PAINTED = """() => new Promise((done) => new PerformanceObserver((list) => {
  if (list.getEntriesByName("first-contentful-paint").length)
    done(["first-paint", "first-contentful-paint"].map((name) => performance.getEntriesByName(name)[0].startTime));
}).observe({ type: "paint", buffered: true }))"""
#: Run before the page's own scripts. An order is there once the next one, or what stands below the orders, begins.
_WATCH = """(() => {
  const watching = new MutationObserver(() => {
    if (document.querySelector("tbody tr + tr, #events") === null) return;
    watching.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("orders")));
  });
  watching.observe(document, { childList: true, subtree: true });
})()"""
_ORDERS = """() => new Promise((done) => new PerformanceObserver((list) => {
  for (const each of list.getEntriesByName("orders")) done(each.startTime);
}).observe({ type: "mark", buffered: true }))"""


async def first_views_in_chromium(port: int) -> None:
    """Say when something, text, and orders are first seen of a page that is served on this port of loopback."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("first view in Chromium: not measured, there is no program chromium: install the package chromium")
        return
    seen: dict[str, list[tuple[float, ...]]] = {PAGE: [], PLAIN: []}
    async with async_playwright() as playwright:
        for _ in range(ROUNDS):
            for path, times in seen.items():
                times.append(await _view(playwright.chromium, chromium, path, f"http://127.0.0.1:{port}"))
    print(f"first view in Chromium, {ROUNDS} rounds, each in a new profile; {PLAIN} as plain text beside {PAGE}")
    for name, at in (("first paint", 0), ("first contentful paint", 1)):
        page, plain = ([times[at] for times in seen[path]] for path in (PAGE, PLAIN))
        ratios = [each / other for each, other in zip(page, plain, strict=True)]
        print(f"… {name}: {_spread(page)} ms, plain text {_spread(plain)} ms; {_spread(ratios, 1)} times as long")
    print(f"… first orders: {_spread([times[2] for times in seen[PAGE]])} ms")


async def _view(kind: BrowserType, chromium: str, path: str, base: str) -> tuple[float, ...]:
    """Give the milliseconds to the first paint, the first contentful one, and orders, in a browser begun for it."""
    browser = await kind.launch(executable_path=chromium, args=SWITCHES)
    try:
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.add_init_script(_WATCH)
        await page.goto(base + path)
        painted = await page.evaluate(_PAINTED)
        return (*painted, await page.evaluate(_ORDERS)) if path == PAGE else tuple(painted)
    finally:
        await browser.close()


def _spread(values: Sequence[float], digits: int = 0) -> str:
    """Give a median with the least and the most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"
