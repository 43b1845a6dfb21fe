"""The page in a real browser, against a real daemon: what somebody at the NOC sees, with and without scripts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from browser.conftest import HOSTILE, URDU, serving
from browser.showcase import gateway
from gatewrit.engine.snapshot import Enforcement, PolicyState, Problem
from gatewrit.policy.terms import Effective, Instant
from unit.api_samples import IN_SYNC, SCHEDULED, SHUTDOWN, UNREAD, UNREAD_PROBLEM, Source

if TYPE_CHECKING:
    from playwright.async_api import Response

    from browser.conftest import Opener
    from lab import Namespace
    from support.gateway import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

expect.set_options(timeout=30_000)
EXACT = "Enforced exactly as ordered"


def now() -> int:
    return int(time.time())


def many(number: int) -> Source:
    """A gateway with so many orders, one of which has a name of its own."""
    start = Instant(now() - 86400, "yesterday")
    until = Instant(now() + 3600, "soon")
    view = replace(SHUTDOWN, effective=Effective(start, until), in_force_since=start.epoch)
    states = (PolicyState.IN_FORCE, PolicyState.SCHEDULED, PolicyState.LAPSED)
    views = tuple(
        replace(view, id=f"order-{at:05}", title=f"Order number {at}", state=states[at % 3], packets=at)
        for at in range(number)
    )
    ruleset = replace(IN_SYNC.ruleset, verified_at=now() - 3)
    return Source(replace(IN_SYNC, policies=(*views, replace(view, id="special", title="Zebra")), ruleset=ruleset))


async def test_the_verdict_stands_first_and_orders_lead_to_their_pages(opener: Opener, daemon: Gateway) -> None:
    async with opener.window() as window:
        await window.open()
        page = window.page
        await expect(page).to_have_title(f"lab-1: {EXACT}")
        await expect(page.get_by_role("heading", level=1)).to_have_text(EXACT)
        await expect(page.locator("#verdict")).to_contain_text("Since")
        await expect(page.locator("#fresh")).to_contain_text("Live, as of")
        row = page.locator("#policy-alpha")
        await expect(row).to_contain_text("in force")
        line = row.get_by_role("img", name="issued 2015-07-24, start 2015-11-30, end 2199-01-01", exact=True)
        await expect(line).to_be_visible()
        await page.get_by_role("link", name="Order alpha").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Order alpha")
        for said in ("An authority", "No. 1", "2015-11-30 19:00 UTC", "2015-12-01 00:00 +05:00", "256 IPv4"):
            await expect(page.locator("#order")).to_contain_text(said)
        await window.open("/orders/nonesuch")
        await expect(page.get_by_role("heading", level=1)).to_have_text("This gateway knows no order of that name")


async def test_a_change_arrives_as_it_happens(opener: Opener, daemon: Gateway) -> None:
    """The page's clock never reaches the 5 s after which it would ask by itself: only an event can make it ask."""
    async with opener.window() as window:
        page = window.page
        await page.clock.install(time=now())
        await page.clock.pause_at(now() + 1)
        async with page.expect_response("**/v1/events"):
            await window.open()
        await page.evaluate("window.untouched = true")
        await page.get_by_role("searchbox", name="Search").focus()
        daemon.order("fresh", "203.0.116.0/24", "tcp/80")
        await asyncio.to_thread(daemon.reload)
        fresh = page.locator("#policy-fresh")
        for _ in range(400):
            await page.clock.run_for(10)
            if await fresh.count():
                break
            await asyncio.sleep(0.02)
        await expect(fresh).to_contain_text("in force")
        assert await page.evaluate("window.untouched"), "it wasn't loaded anew"
        await expect(page.get_by_role("searchbox", name="Search")).to_be_focused()


async def test_a_page_whose_daemon_is_gone_says_so(opener: Opener, daemon: Gateway) -> None:
    async with opener.window() as window:
        page = window.page
        await page.clock.install()
        await window.open()
        await expect(page.get_by_role("heading", level=1)).to_have_text(EXACT)
        daemon.end(signal.SIGKILL)
        try:
            await page.clock.run_for(9_000)
            await expect(page.locator("#fresh")).to_contain_text("No answer since")
            await page.clock.run_for(9_000)
            await expect(page.get_by_role("heading", level=1)).to_contain_text("Unknown since")
            await expect(page.locator("#verdict")).to_have_class("verdict unknown")
            await expect(page.get_by_role("alert")).to_contain_text("systemctl status gatewrit")
            await expect(page.locator("link[rel=icon]")).to_have_attribute("href", "/icon/unknown.svg")
            assert (await page.title()).startswith("? ")
            await page.get_by_label("Is it blocked?").fill("203.0.113.9")
            await page.keyboard.press("Enter")
            await expect(page.locator("#answer")).to_contain_text("Nobody can tell")
        finally:
            await asyncio.to_thread(daemon.start)
        await page.clock.run_for(6_000)
        await expect(page.get_by_role("heading", level=1)).to_have_text(EXACT)
        await expect(page.locator("#verdict")).to_have_class("verdict good")
        await expect(page).to_have_title(f"lab-1: {EXACT}")


async def test_a_page_whose_script_is_gone_says_so_too(opener: Opener, daemon: Gateway) -> None:
    async with opener.window() as window:
        page = window.page
        await page.route("**/live.js", lambda route: route.abort())
        await window.open()
        watchdog = page.locator(".watchdog")
        await expect(watchdog).to_be_hidden()
        await page.evaluate("for (const each of document.getAnimations()) each.currentTime = 29_900")
        await expect(watchdog).to_be_visible()


async def test_each_answer_holds_the_watchdog_off(opener: Opener, daemon: Gateway) -> None:
    async with opener.window() as window:
        page = window.page
        await page.clock.install()
        await window.open()
        held = "document.getAnimations().map((each) => each.animationName).join()"
        assert await page.evaluate(held) == "unrenewed"
        await page.clock.run_for(6_000)
        # Not `wait_for_function`, which has the page evaluate a text: its policy forbids that.
        async with asyncio.timeout(30):
            while await page.evaluate(held) != "unrenewed-again":  # noqa: ASYNC110 - nothing in the page tells us
                await asyncio.sleep(0.02)


LOOK_UPS = {
    "203.0.113.9": ("Blocked in part", "TCP port 3101"),
    "203.0.113.9:3101": ("Blocked in part", "Partly: of port 3101 of 203.0.113.9, TCP port 3101 is blocked"),
    "[2607:ffc0::1]:3101": ("Blocked in part", "by order of An authority, No. 1 (alpha, revision 1)"),
    "http://203.0.114.1/a?b": ("Blocked", "TCP port 80 of 203.0.114.1"),
    "https://203.0.114.1/": ("Not blocked here", "TCP port 443"),
    "192.0.2.0/25": ("Not blocked here", "No: 192.0.2.0/25 is not blocked here; the order of An authority"),
    "203.0.112.0/22": ("Blocked in part", "Blocked in part: 203.0.113.0 to 203.0.115.255."),
    "8.8.8.8": ("Not blocked here", "no order covers it"),
    "www.example.com": ("", "is a name. Orders are enforced by address"),
    "203.0.113.9:http": ("", "A port is a whole number from 0 to 65535"),
    "203.0.113.999": ("", "isn't an address"),
    "203.0.113.9/24": ("", "is 203.0.113.0/24 meant"),
    "<img src=x>": ("", "“<img src=x>” isn't an address"),
}


async def test_look_ups_are_answered_in_place(opener: Opener, daemon: Gateway) -> None:
    async with opener.window() as window:
        await window.open()
        page = window.page
        for typed, (short, said) in LOOK_UPS.items():
            await page.get_by_label("Is it blocked?").fill(typed)
            await page.keyboard.press("Enter")
            await expect(page.locator("#answer")).to_contain_text(said)
            if short:
                await expect(page.locator("#answer .short strong").first).to_have_text(short)
        assert page.url.endswith(":9451/")


async def test_without_scripts_everything_is_there(opener: Opener, daemon: Gateway) -> None:
    async with opener.window(java_script_enabled=False) as window:
        await window.open()
        page = window.page
        await expect(page.locator("meta[http-equiv=refresh]")).to_have_attribute("content", "10")
        await page.get_by_role("searchbox", name="Search").fill("alpha")
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_role("link", name="Order alpha").click()
        await expect(page.locator("#order")).to_contain_text("An authority")
        await page.get_by_label("Is it blocked?").fill("203.0.113.9:3101")
        await page.get_by_role("button", name="Look up").click()
        await expect(page.locator("#told")).to_contain_text(
            "Partly: of port 3101 of 203.0.113.9, TCP port 3101 is blocked"
        )
        await window.open("/?state=suspended&sort=title")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator("#policy-beta")).to_contain_text("suspended")


async def test_what_means_harm_is_only_text(opener: Opener, daemon: Gateway) -> None:
    async with opener.window() as window:
        page = window.page
        for path in ("/", "/orders/hostile", "/lookup?q=203.0.114.1:80"):
            await window.open(path)
            title = page.locator("main").get_by_text(HOSTILE, exact=True).first
            await expect(title).to_be_visible()
            assert "owned" not in (await page.title()).replace(HOSTILE, "")
            assert await page.locator("main script, main img[src=x]").count() == 0
        await window.open("/orders/urdu")
        heading = page.get_by_role("heading", name=URDU)
        assert await heading.evaluate("heading => heading.matches(':dir(rtl)')")


async def test_ten_thousand_orders_are_searched_sorted_and_paged(opener: Opener, space: Namespace) -> None:
    async with serving(space, many(10_000)) as base, opener.window() as window:
        page = window.page
        answers: list[Response] = []
        page.on("response", lambda answer: answer.request.resource_type == "eventsource" or answers.append(answer))
        await window.open(base=base)
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(50)
        await expect(page.get_by_role("row")).to_have_count(51)
        laid_out = "row => row.firstElementChild.firstElementChild.checkVisibility({contentVisibilityAuto: true})"
        assert await rows.first.evaluate(laid_out)
        assert not await rows.last.evaluate(laid_out), "what is far below costs the first view nothing"
        assert 0 < sum([len(await answer.body()) for answer in answers]) < 150_000
        await expect(page.get_by_role("status")).to_have_text("1 to 50 of 10\u202f001")
        await page.get_by_role("searchbox", name="Search").press_sequentially("zeb")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("Zebra")
        assert page.url.endswith("/?q=zeb")
        await page.get_by_role("searchbox", name="Search").fill("")
        await page.get_by_label("Sort by").select_option("packets")
        await expect(rows.first).to_contain_text("Zebra")
        await page.get_by_role("link", name="Next 50").click()
        await expect(page.get_by_role("status")).to_have_text("51 to 100 of 10\u202f001")
        await page.get_by_role("link", name="lapsed").click()
        await expect(page.get_by_role("status")).to_have_text("1 to 50 of 3\u202f333")
        await expect(rows.first).to_have_class("lapsed")
        await page.get_by_role("searchbox", name="Search").fill("no such order")
        await expect(page.get_by_role("status")).to_contain_text("No order fits.")


async def test_counts_become_a_chart_as_they_are_read(opener: Opener, space: Namespace) -> None:
    source = many(3)
    async with serving(space, source) as base, opener.window() as window:
        page = window.page
        await page.clock.install()
        await window.open("/orders/special", base)
        chart = page.locator("#chart")
        await expect(chart).to_be_hidden()
        for _ in range(4):
            views = tuple(replace(view, packets=view.packets + 500) for view in source.held.policies)
            source.held = replace(source.held, policies=views)
            shown = await page.locator("[data-packets]").text_content()
            for _ in range(3):
                await page.clock.run_for(5_100)
            await expect(page.locator("[data-packets]")).not_to_have_text(shown or "")
        await expect(chart).to_contain_text("packets a second")
        assert "M0.0" in (await chart.locator("path.rate").get_attribute("d") or "")


async def test_a_keyboard_is_enough(opener: Opener, daemon: Gateway) -> None:
    async with opener.window() as window:
        await window.open()
        page = window.page
        await page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Is it blocked?")).to_be_focused()
        await page.keyboard.type("8.8.8.8\n")
        await expect(page.locator("#answer")).to_contain_text("Not blocked here")


TROUBLE = Problem("kernel_refused", "error", "the kernel refused it: ENOBUFS", "See the daemon's log", 1451995000)
GONE = replace(TROUBLE, code="enforcer_silent")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(opener: Opener, daemon: Gateway, space: Namespace, scheme: str) -> None:
    axe = Axe()
    source = many(3)
    held = replace(source.held, policies=(*source.held.policies[:3], SCHEDULED, UNREAD))
    async with serving(space, source) as base, opener.window(color_scheme=scheme) as window:
        page = window.page

        async def judge() -> None:
            results = await axe.run(page)
            assert results.violations_count == 0, results.generate_report()

        await window.open()
        await page.get_by_label("Is it blocked?").fill("203.0.113.9")
        await page.keyboard.press("Enter")
        await expect(page.locator("#answer .say")).to_be_visible()
        await judge()
        for path in ("/orders/alpha", "/orders/nonesuch", "/lookup?q=x"):
            await window.open(path)
            await judge()
        for verdict, trouble in {
            Enforcement.STARTING: UNREAD_PROBLEM,
            Enforcement.DEGRADED: replace(UNREAD_PROBLEM, severity="warning"),
            Enforcement.FAILED: TROUBLE,
            Enforcement.DRIFTED: GONE,
        }.items():
            source.held = replace(held, enforcement=verdict, problems=(trouble,))
            await window.open(base=base)
            await judge()
        await page.set_viewport_size({"width": 390, "height": 844})
        await judge()


#: The README's pictures; the others would be large, and show nothing else.
TAKEN = {"desk", "desk-order", "night", "phone"}


#: Where the cells of a table's rows begin, each arrangement once. A phone has a card for each order, without columns.
COLUMNS = """() => [...new Set([...document.querySelectorAll("tr")]
  .filter((row) => getComputedStyle(row).display === "grid")
  .map((row) => [...row.children].map((cell) => cell.getBoundingClientRect().left).join()))]"""


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [
        ("desk", 1440, 900, "light"),
        ("night", 1440, 900, "dark"),
        ("wall", 2560, 1440, "dark"),
        ("phone", 390, 844, "light"),
    ],
)
async def test_the_page_fits(  # noqa: PLR0917
    opener: Opener, space: Namespace, name: str, width: int, height: int, scheme: str
) -> None:
    """Also takes the README's pictures, where `SCREENSHOTS` names a folder for them."""
    size = {"width": width, "height": height}
    async with serving(space, gateway(now())) as base, opener.window(**size, color_scheme=scheme) as window:
        for path, picture in {"/": name, "/orders/bes-shutdown": f"{name}-order"}.items():
            await window.open(path, base)
            await expect(window.page.locator("#fresh")).to_contain_text("Live, as of")
            assert await window.page.evaluate("document.documentElement.scrollWidth") == width
            assert len(await window.page.evaluate(COLUMNS)) < 2, "each row has its columns where the others have them"
            if (folder := os.environ.get("SCREENSHOTS")) and picture in TAKEN:
                await window.page.screenshot(path=Path(folder) / f"{picture}.png")


#: Instants that reach into what stands beside them.
BEYOND = """() => [...document.querySelectorAll("td time")].filter((time) => {
    const cell = time.closest("td"), room = parseFloat(getComputedStyle(cell).paddingRight);
    return time.getBoundingClientRect().right > cell.getBoundingClientRect().right - room + 1;
  }).map((time) => time.textContent)"""


async def test_an_instant_with_seconds_has_room(opener: Opener, space: Namespace) -> None:
    source = gateway(now())
    first, *others = source.held.policies
    assert first.effective is not None
    odd = replace(first.effective.start, epoch=first.effective.start.epoch + 11)
    view = replace(first, effective=replace(first.effective, start=odd, until=odd, review_by=odd))
    source.held = replace(source.held, policies=(view, *others))
    async with serving(space, source) as base, opener.window(width=1300, height=900) as window:
        await window.open("/", base)
        assert await window.page.evaluate(BEYOND) == []
