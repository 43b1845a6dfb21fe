"""A browser inside a namespace with nothing but loopback, where a real daemon listens: whatever it asks of anybody else
can't be had, and nothing of this machine's network is touched.
"""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from gatewrit.api import http
from gatewrit.api.access import Access, Keys
from lab import Namespace
from support.chromium import SWITCHES
from support.gateway import Gateway, gateway_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser, BrowserContext, Page, Request

    from gatewrit.api.http import SnapshotSource

DAEMON = "http://127.0.0.1:9451"
HOSTILE = "</title><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{ 7 * 7 }}"
URDU = "عدالتی حکم ۱۱۸"


@dataclass
class Window:
    """A browser's tab, and what went wrong in it: nothing may."""

    page: Page
    complaints: list[str]
    elsewhere: list[str]

    async def open(self, path: str = "/", base: str = DAEMON) -> None:
        await self.page.goto(base + path)


class Opener:
    """Opens windows, each with a profile of its own."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @asynccontextmanager
    async def window(self, *, width: int = 1440, height: int = 900, **options: Any) -> AsyncIterator[Window]:
        context: BrowserContext = await self._browser.new_context(
            viewport={"width": width, "height": height}, **options
        )
        context.set_default_timeout(30_000)
        page = await context.new_page()
        window = Window(page, [], [])

        def sent(request: Request) -> None:
            if not request.url.startswith("http://127.0.0.1:"):
                window.elsewhere.append(request.url)

        page.on("request", sent)
        page.on("pageerror", lambda error: window.complaints.append(str(error)))
        page.on("dialog", lambda dialog: window.complaints.append(dialog.message))
        page.on(
            "console",
            lambda message: (
                window.complaints.append(message.text)
                if message.type == "error" and "ERR_" not in message.text and "the server responded" not in message.text
                else None
            ),
        )
        try:
            yield window
            assert window.complaints == []
            assert window.elsewhere == []
        finally:
            await context.close()


@pytest.fixture(scope="module")
def space(_nftables: None) -> Iterator[Namespace]:
    with Namespace() as space:
        yield space


@pytest.fixture(scope="module")
def daemon(space: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that enforces a handful of orders, one with a title that means harm."""
    with gateway_in(space, tmp_path_factory.mktemp("gateway"), listen=[DAEMON.removeprefix("http://")]) as gateway:
        gateway.order("alpha", ["203.0.113.0/24", "2607:ffc0::/32"], "tcp/3101")
        gateway.order("beta", "198.51.100.0/24", "any", action="drop", state="suspended")
        gateway.order("ahead", "192.0.2.0/25", "udp/5060", start=4102444800)
        gateway.order("hostile", "203.0.114.0/24", "tcp/80")
        gateway.order("urdu", "203.0.115.0/24", "tcp/80")
        for name, title in {"hostile": HOSTILE, "urdu": URDU}.items():
            path = gateway.policies / f"{name}.yaml"
            escaped = title.replace("'", "''")
            gateway.write(path.name, path.read_text().replace(f"title: Order {name}", f"title: '{escaped}'"))
        gateway.start()
        yield gateway
        assert gateway.logged("http.failed") == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opener(space: Namespace, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Opener]:
    """Chromium, moved into the namespace before it begins."""
    chromium = shutil.which("chromium")
    assert chromium, "the program chromium is missing: install the package chromium"
    user = [] if space._user is None else [f"--user=/proc/{os.getpid()}/fd/{space._user}", "--preserve-credentials"]
    moved = tmp_path_factory.mktemp("browser") / "chromium"
    words = ["nsenter", *user, f"--net=/proc/{os.getpid()}/fd/{space.fileno()}", chromium]
    moved.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
    moved.chmod(0o755)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=moved, args=SWITCHES)
        yield Opener(browser)
        await browser.close()


@asynccontextmanager
async def serving(space: Namespace, source: SnapshotSource) -> AsyncIterator[str]:
    """Serve what `source` says in the namespace, as the daemon's server would; give where."""
    with space.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        async with http.serve_on(source, [sock], Access(Keys())):
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
