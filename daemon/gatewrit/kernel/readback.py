"""Reading the table back from nftables, all of it at one generation: dumps in, `Actual` out.

Asking and decoding happen in threads, because the kernel works inside these calls, and the daemon must answer
meanwhile; but for the generation, which the kernel has at hand. Whatever goes wrong is `KernelError`: an answer that
isn't what it claims to be is EBADMSG.
"""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from gatewrit.kernel import messages, wire
from gatewrit.kernel.asking import Asking
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.touched import as_said, worth_asking
from gatewrit.kernel.transaction import Actual

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatewrit.kernel.ruleset import Set
    from gatewrit.kernel.transaction import ActualCounter, Tenure, Touch

#: How often a dump is tried again because somebody changed the ruleset meanwhile.
_READ_ATTEMPTS = 20


class TableReader:
    """Asks on a socket of its own, in the network namespace of the event loop's thread. See `Kernel`."""

    def __init__(self) -> None:
        self._asking = Asking()
        self._decoded: messages.Decoded = {}

    def close(self) -> None:
        """Close the socket once nobody is asking any more; blocks."""
        self._asking.close()

    async def read(self, known: Actual | None, port: int, *, owning: bool) -> Actual:
        """Read the whole table at one generation; raises `KernelError` (EAGAIN where it never holds still).

        Whose the table is, is told as `messages.tenure` does.
        """
        for attempt in range(_READ_ATTEMPTS):
            try:
                before = await self.generation()
                answers, there = await self._dump_all(before, known)
                if await self.generation() == before:
                    with _understood("read the table"):
                        actual = await asyncio.to_thread(messages.decode, answers, there, self._decoded)
                        tenure, holder = messages.tenure(answers.tables, port, owning=owning)
                    return replace(actual, tenure=tenure, holder=holder)
            except KernelError as error:
                # ENOENT: a set or the table went away between two questions.
                if error.errno not in {errno.EINTR, errno.ENOENT, errno.EAGAIN}:
                    raise
            await asyncio.sleep(0.001 * 2 ** min(attempt, 7))
        raise KernelError(errno.EAGAIN, "read the table while others keep changing the ruleset")

    async def read_sets(self, names: Sequence[str]) -> dict[str, tuple[Set, int]]:
        """Read some sets by themselves; it ends where one is changed meanwhile, and leaves out what isn't ours."""
        found: dict[str, tuple[Set, int]] = {}

        def read() -> None:
            for name in names:
                ((code, answers),) = self._asking.each([messages.set_request(name)])
                described = messages.own_sets(answers)
                if code or name not in described:
                    continue
                try:
                    dumped = self._asking.ask(messages.request(messages.GETSETELEM, name))
                except InterruptedError:
                    return
                made = messages.decode_set(described[name], dumped)
                if made is not None:
                    found[name] = made, wire.number(described[name][16])

        with self._asked("read some sets"), _understood("read some sets"):
            await asyncio.to_thread(read)
        return found

    async def counters(self) -> Mapping[str, ActualCounter]:
        """Read only the counters."""
        payloads = await self._dump(messages.GETOBJ)
        with _understood("read the counters"):
            found = [messages.decode_counter(payload) for payload in payloads]
        return {counter.name: counter for counter in found if counter is not None}

    async def generation(self) -> int:
        """Ask for the ruleset generation of this network namespace: it grows with every transaction of anybody."""
        what = "ask for the generation"
        # Not in a thread, which costs thrice as much: the kernel answers under no lock (NFNL_CB_RCU), in microseconds.
        with self._asked(what), _understood(what):
            answers = self._asking.ask(messages.request(messages.GETGEN), dump=False)
            return wire.number(wire.attributes(b"".join(answers[:1]))[1])

    async def tenure(self, port: int, *, owning: bool) -> tuple[Tenure, int | None]:
        """Ask only whose the table is; see `messages.tenure`."""
        tables = await self._dump(messages.GETTABLE)
        with _understood("read the tables"):
            return messages.tenure(tables, port, owning=owning)

    async def _dump_all(self, generation: int, known: Actual | None) -> tuple[messages.Answers, Actual]:
        """Ask for everything that isn't known; gives the answers, and what is known once they are there."""
        tables = await self._dump(messages.GETTABLE)
        with _understood("read the tables"):
            table = messages.own_table(tables)
            handle = None if table is None else wire.number(table[4])
        if handle is None:
            return messages.Answers(generation, tables), Actual(generation)
        sets = await self._dump(messages.GETSET)
        with _understood("read the sets"):
            described = messages.own_sets(sets)
            handles = {name: wire.number(parts[16]) for name, parts in described.items()}
        mine = known if known is not None and handle == known.handle else Actual(generation)
        names = [name for name, handle in handles.items() if name not in mine.sets or mine.handles.get(name) != handle]
        touched = {name: each for name, each in mine.touched.items() if mine.handles.get(name) == handles.get(name)}
        objects = await self._dump(messages.GETOBJ)
        chains, rules = await self._dump(messages.GETCHAIN), await self._dump(messages.GETRULE)
        flowtables = await self._dump(messages.GETFLOWTABLE)
        elements, found = await self._elements(names, described, touched)
        answers = messages.Answers(generation, tables, chains, rules, sets, objects, flowtables, elements, handles)
        return answers, replace(mine, sets={**mine.sets, **found})

    async def _elements(
        self, names: Sequence[str], sets: Mapping[str, wire.Attributes], touched: Mapping[str, Touch]
    ) -> tuple[dict[str, tuple[bytes, ...]], dict[str, Set]]:
        """Read the elements of some sets, a thousand of them without a turn of the event loop for each.

        Gives what the kernel dumped of those that aren't of a kind of ours, and the others. While the kernel dumps one
        set, the ones before are decoded.
        """
        dumped: dict[str, tuple[bytes, ...]] = {}
        made: dict[str, Set] = {}
        if not names:
            return dumped, made

        def decode(name: str) -> None:
            found = messages.decode_set(sets[name], dumped[name])
            if found is not None:
                made[name] = found
                del dumped[name]

        def read() -> None:
            asked = [touched[name] for name in names if name in touched and worth_asking(touched[name])]
            proved = as_said(asked, self._asking.each) if asked else set[str]()
            made.update((name, touched[name].now) for name in proved)
            with ThreadPoolExecutor(1, "decode") as decoder:
                waiting = []
                for name in names:
                    if name not in proved:
                        dumped[name] = self._asking.ask(messages.request(messages.GETSETELEM, name))
                        waiting.append(decoder.submit(decode, name))
                for each in waiting:
                    each.result()

        with self._asked("read the sets"), _understood("read the sets"):
            await asyncio.to_thread(read)
        return dumped, made

    async def _dump(self, kind: int) -> tuple[bytes, ...]:
        with self._asked("read the table"):
            return await asyncio.to_thread(self._asking.ask, messages.request(kind))

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Have the socket for questions open, and turn what goes wrong into `KernelError`."""
        try:
            # Here, for it belongs to the namespace of this thread.
            self._asking.open()
            yield
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, what) from error


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turn an answer that isn't what it claims to be into `KernelError`: whoever asked tries again, and says so."""
    try:
        yield
    except wire.WireError as error:
        raise KernelError(errno.EBADMSG, f"{what}, of which this came back: {error}") from error
