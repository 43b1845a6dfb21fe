"""What all answers of one application share: where they come from, and what has been rendered already."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import ETag, web

from gatewrit.api import wire
from gatewrit.api.bucket import Bucket
from gatewrit.api.paths import JSON
from gatewrit.engine.answer import NotKeptError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator

    from gatewrit.api.source import SnapshotSource
    from gatewrit.api.stream import Streams
    from gatewrit.engine.snapshot import PastView, Snapshot

T = TypeVar("T")

#: Above this many policies an answer is rendered in a thread, so that the loop that enforces keeps turning.
_LARGE = 200
#: Renderings kept of one snapshot; and states of the past, each of which may be 10,000 policies.
_KEPT, _KEPT_PASTS = 32, 2


class _Once:
    """What was made of one snapshot, each once however many ask; the last `most` are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._snapshot: Snapshot | None = None
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(self, key: Hashable, snapshot: Snapshot, function: Callable[[], Awaitable[T]]) -> T:
        """Return what `function` gives, or gave."""
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._tasks = {}
        task: asyncio.Task[T] | None = self._tasks.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            if len(self._tasks) >= self._most:
                del self._tasks[next(iter(self._tasks))]
            task = asyncio.ensure_future(_awaited(function))
            self._tasks[key] = task
        # One client that hangs up doesn't take the answer from the others.
        return await asyncio.shield(task)


class Face:
    """The answers of one application, each rendered once for each snapshot however many ask at once."""

    def __init__(self, source: SnapshotSource, now: Callable[[], int], streams: Streams) -> None:
        self.source = source
        self.now = now
        self.streams = streams
        self.explanations = Bucket()
        self._rendered = _Once(_KEPT)
        self._pasts = _Once(_KEPT_PASTS)

    def admit(self) -> None:
        """Let a question through that costs something; raises `TooOftenError`."""
        if wait := self.explanations.take(asyncio.get_running_loop().time()):
            raise wire.TooOftenError(wait)

    async def render(self, key: Hashable, snapshot: Snapshot, function: Callable[[], T]) -> T:
        """Return what `function` makes of `snapshot`, which `key` names."""
        return await self.once(key, snapshot, lambda: _work(function, large=len(snapshot.policies) > _LARGE))

    async def once(self, key: Hashable, snapshot: Snapshot, function: Callable[[], Awaitable[T]]) -> T:
        """Return what `function` gives, which is waited for once for each snapshot and `key`."""
        return await self._rendered.get(key, snapshot, function)

    async def stood(self, at: int) -> PastView:
        """Return how the gateway stood; whoever asks again meanwhile gets the same. Raises `RequestError`."""
        self.admit()
        try:
            return await self._pasts.get(at, self.source.snapshot(), lambda: self.source.archive.stood(at))
        except NotKeptError as error:
            raise wire.RequestError(404, "not_kept", f"Not kept: {error}.") from None

    async def begin(
        self, key: Hashable, snapshot: Snapshot, function: Callable[[], Iterator[T]]
    ) -> tuple[T, asyncio.Task[T]]:
        """Return the first of the two pieces that `function` gives of `snapshot`, and the task that makes the second.

        That is made in a thread in any case, so that the first can be sent meanwhile. Many may wait for it: shield it.
        """

        async def begun() -> tuple[T, asyncio.Task[T]]:
            pieces = function()
            first = await _work(partial(next, pieces), large=len(snapshot.policies) > _LARGE)
            return first, asyncio.create_task(asyncio.to_thread(next, pieces))

        return await self.once(key, snapshot, begun)


async def _awaited(function: Callable[[], Awaitable[T]]) -> T:
    return await function()


async def _work(function: Callable[[], T], *, large: bool) -> T:
    return await asyncio.to_thread(function) if large else function()


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer as it goes out, with its entity tag (RFC 9110, section 8.8.3) and the cursor of what follows.

    A `weak` tag doesn't count what is new for each request, such as what time it is.
    """

    body: bytes
    etag: str
    following: str | None = None
    weak: bool = False


def rendered(body: bytes, following: str | None = None) -> Rendered:
    """Return an answer with its tag."""
    return Rendered(body, sha256(body).hexdigest()[:32], following)


def conditional(request: web.Request, etag: ETag) -> web.Response | None:
    """Return that nothing has changed, if the client has what this tag names."""
    if all(tag.value not in {etag.value, "*"} for tag in request.if_none_match or ()):
        return None
    response = web.Response(status=304)
    response.etag = etag
    return response


def answer(request: web.Request, made: Rendered, media_type: str = JSON) -> web.Response:
    """Return a document as the answer, or that it hasn't changed."""
    etag = ETag(made.etag, is_weak=made.weak)
    response = conditional(request, etag)
    if response is None:
        charset = None if media_type == JSON else "utf-8"
        response = web.Response(body=made.body, content_type=media_type, charset=charset)
        response.etag = etag
    if made.following is not None:
        following = request.rel_url.update_query(cursor=made.following)
        response.headers["Link"] = f'<{following}>; rel="next"'
    return response
