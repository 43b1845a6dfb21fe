"""The netlink socket: reads the whole table back consistently, and commits transactions. The only user of pyroute2.

A transaction is one batch in one `sendmsg`, acknowledged as a whole: the kernel takes all of it or none. Sending and
asking happen in a thread, because the kernel works inside these calls, and the daemon must answer meanwhile; but for
the generation, which the kernel has at hand.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nlsocket import AsyncNetlinkSocket, NetlinkRequest

from gatewrit.kernel import endpoint, messages, wire
from gatewrit.kernel.asking import Asking
from gatewrit.kernel.grace import grace
from gatewrit.kernel.ruleset import TABLE
from gatewrit.kernel.touched import as_said, worth_asking
from gatewrit.kernel.transaction import Actual, Tenure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gatewrit.kernel.messages import Message
    from gatewrit.kernel.ruleset import Set
    from gatewrit.kernel.transaction import ActualCounter, Touch, Transaction

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
#: NFNL_BATCH_GENID: the batch is refused with ERESTART unless the ruleset is still at this generation.
_BATCH_GENID = 1

#: Some 30,000 elements of a hash, 10 ms of the kernel's lock (intervals: 13,000, 30 ms); and what the marks take.
_BATCH_BYTES, _BATCH_SPARE = 512 << 10, 4096
#: The largest send buffer that can be asked for without the kernel's doubling it beyond an int.
_BOUNDLESS = 1 << 29

#: The kernel's own bound on its error numbers (include/linux/err.h).
_MAX_ERRNO = 4095

#: Seconds without an answer after which it is lost: the kernel has put one there when `send` returns.
_PATIENCE = 5.0

#: How often a dump is tried again because somebody changed the ruleset meanwhile.
_READ_ATTEMPTS = 20


class KernelError(Exception):
    """The kernel refused, or could not be asked. `errno` is its reason, `operation` what was tried."""

    def __init__(self, code: int, operation: str) -> None:
        self.errno = code
        self.operation = operation
        super().__init__(f"{operation}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")


class TableHeldError(KernelError):
    """The table is owned by somebody else's socket, `holder` by its netlink port: only that one can change it."""

    def __init__(self, holder: int) -> None:
        super().__init__(errno.EPERM, "change the table")
        self.holder = holder

    def __str__(self) -> str:
        return held_text(self.holder)


def held_text(holder: int) -> str:
    """Say who owns the table instead of us, and what that means."""
    return (
        f"the table inet {TABLE} is owned by another program's netlink socket (port {holder}, usually its process id): "
        "nothing can be changed in it, and what it has stays as it is"
    )


class Kernel(Protocol):
    """What the engine asks of a kernel; the real one is `NftSocket`, the tests' fake behaves alike."""

    @property
    def room(self) -> int:
        """The most bytes that a batch should have: a bound on how long others wait for the kernel's lock."""

    @property
    def largest(self) -> int | None:
        """The most bytes that a transaction can have; None if it may be as large as it must."""

    async def read(self, known: Actual | None = None) -> Actual:
        """Read the whole table at one generation.

        The elements of sets that are in `known`, and still the same sets, are taken from there. Of those that `known`
        has as touched, it may be enough to read back what was changed.
        """

    async def read_sets(self, names: Sequence[str]) -> dict[str, tuple[Set, int]]:
        """Read some sets by themselves in this order, each with its handle, at whatever generation.

        Those may be left out, and all behind them, at which somebody changed the ruleset. Raises `KernelError`.
        """

    async def counters(self) -> Mapping[str, ActualCounter]:
        """Read only the counters."""

    async def generation(self) -> int:
        """Ask for the ruleset's generation, which grows with every transaction of anybody."""

    async def commit(self, transaction: Transaction, generation: int | None = None) -> None:
        """Carry out all of it or nothing; with `generation`, only if nobody changed anything since.

        Raises `KernelError`, with ERESTART if somebody did. With ENOBUFS, or ETIMEDOUT where no answer came, it may
        have been done all the same: read back.
        """

    @property
    def committed(self) -> int:
        """How many commits were acknowledged, each of which is one more generation."""

    async def grace(self) -> None:
        """Wait until every packet is through that met anything from before the last commit."""


@dataclass
class _Raw:
    """A message that was encoded already, in the shape that pyroute2's requests expect."""

    kind: int
    flags: int
    body: bytes
    data: bytes = b""
    header: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.header.update(type=self.kind, flags=self.flags)

    def __getitem__(self, key: str) -> dict[str, Any]:
        return {"header": self.header}[key]

    def reset(self) -> None:
        """Nothing is kept between encodings."""

    def encode(self) -> None:
        """Put the netlink header (struct nlmsghdr) in front."""
        head = self.header
        self.data = wire.frame(head["type"], head["flags"], head["sequence_number"], head["pid"], self.body)


def _nfgenmsg(resource: int = 0, family: int = messages.NFPROTO_INET) -> bytes:
    """Encode struct nfgenmsg: family, version, resource id."""
    return wire.NFGENMSG.pack(family, 0, resource)


def _parse(data: bytes, offset: int, _length: int) -> dict[str, Any]:
    """Take one message out of a datagram for pyroute2, leaving its attributes undecoded."""
    length, kind, flags, sequence, _ = wire.NLMSGHDR.unpack_from(data, offset)
    header: dict[str, Any] = {"type": kind, "flags": flags, "sequence_number": sequence, "error": None}
    body = data[offset + wire.NLMSGHDR.size : offset + length]
    if kind == NLMSG_ERROR:
        code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
        header["error"] = NetlinkError(code if 0 < code <= _MAX_ERRNO else errno.EBADMSG) if code else None
    return {"header": header, "payload": body[wire.NFGENMSG.size :]}


class NftSocket:
    """A netlink socket bound to the network namespace that it was made in.

    Use as `async with NftSocket() as kernel`, inside a running event loop. Needs CAP_NET_ADMIN over the namespace.
    `owning`: the table is to be ours alone, where the kernel can do that (6.9); the one socket that writes owns it for
    as long as any descriptor of it is open. `held` is such a socket that was kept from before.
    """

    def __init__(self, *, owning: bool = False, held: socket.socket | None = None) -> None:
        self._held = held
        self._owning: bool | None = None if owning else False
        self._strays: asyncio.Task[None] | None = None
        self._waiting: int | None = None
        self._broken: int | None = None
        self._committed = 0
        self._asking = Asking()
        self._decoded: messages.Decoded = {}

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        await asyncio.to_thread(self._asking.close)
        self.held.close()

    @property
    def held(self) -> socket.socket:
        """The socket that owns the table."""
        assert self._held is not None  # noqa: S101 - it is opened with the rest
        return self._held

    async def _open(self) -> None:
        if self._held is None:
            self._held = endpoint.open_endpoint()
        else:
            endpoint.drain(self._held)
        # A descriptor of its own, for pyroute2 gives up what has failed once: the table mustn't be without owner then.
        own = socket.socket(fileno=os.dup(self._held.fileno()))
        self._netlink = AsyncNetlinkSocket(family=wire.NETLINK_NETFILTER, use_socket=own)
        await self._netlink.setup_endpoint()
        self._broken = None
        self._strays = asyncio.create_task(self._take_strays())

    async def _close(self) -> None:
        if self._strays is not None:
            self._strays.cancel()
            await asyncio.gather(self._strays, return_exceptions=True)
        self._netlink.close()

    async def _take_strays(self) -> None:
        """Take what answers no request: leftovers of a batch that failed, and errors of the socket itself.

        pyroute2 files a receive error (ENOBUFS, say) under no request, so whoever waits would wait for ever; and it
        never uses that socket again. The one who waits is woken, and the socket is wrapped anew for the next request.
        """
        while True:
            data = await self._netlink.msg_queue.queues[0].get()
            _, kind, _, sequence, _ = (
                wire.NLMSGHDR.unpack_from(data) if len(data) >= wire.NLMSGHDR.size else (0, 0, 0, 1, 0)
            )
            if kind == NLMSG_ERROR and sequence == 0:
                self._break(int.from_bytes(data[16:20], sys.byteorder) or errno.EIO)

    def _break(self, code: int) -> None:
        """Use this socket no more, and wake whoever waits for an answer on it."""
        self._broken = code
        if self._waiting is not None:
            self._netlink.msg_queue.put_nowait(self._waiting, b"")

    @property
    def room(self) -> int:
        """The most bytes that a batch should have; fewer where the send buffer may not grow."""
        endpoint.make_room(self.held, _BATCH_BYTES)
        allowed: int = self.held.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return min(_BATCH_BYTES, allowed - _BATCH_SPARE)

    @property
    def largest(self) -> int | None:
        """The most bytes that a transaction can have: without CAP_NET_ADMIN in the first user namespace."""
        if endpoint.may_force_room(self.held, _BATCH_BYTES):
            return None
        # The kernel cuts this down to net.core.wmem_max.
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BOUNDLESS)
        allowed: int = self.held.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return allowed - _BATCH_SPARE

    async def read(self, known: Actual | None = None) -> Actual:
        """Read the whole table at one generation; raises `KernelError` (EAGAIN where it never holds still)."""
        await self._try_owning()
        for attempt in range(_READ_ATTEMPTS):
            try:
                before = await self.generation()
                answers, there = await self._dump_all(before, known)
                if await self.generation() == before:
                    with _understood("read the table"):
                        actual = await asyncio.to_thread(messages.decode, answers, there, self._decoded)
                        tenure, holder = self._tenure(answers.tables)
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

        with self._asked(lambda: "read some sets"), _understood("read some sets"):
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
        with self._asked(lambda: what), _understood(what):
            answers = self._asking.ask(messages.request(messages.GETGEN), dump=False)
            return wire.number(wire.attributes(b"".join(answers[:1]))[1])

    async def commit(self, transaction: Transaction, generation: int | None = None) -> None:
        """Carry out all of it or nothing, acknowledged; see `Kernel.commit`."""
        encoded = await asyncio.to_thread(
            lambda: [message for operation in transaction.operations for message in messages.encode(operation)]
        )
        if not encoded:
            return
        try:
            await self._commit(encoded, generation)
        except KernelError as error:
            holder = await self._other_holder() if error.errno == errno.EPERM else None
            if holder is None:
                raise
            raise TableHeldError(holder) from None
        self._committed += 1

    @property
    def committed(self) -> int:
        """How many commits were acknowledged; see `Kernel.committed`."""
        return self._committed

    async def _commit(self, encoded: Sequence[Message], generation: int | None, *, try_only: bool = False) -> None:
        """Send messages as one batch; `try_only` says whether the kernel would take them, and changes nothing."""
        last = await self._prepare(encoded[-1], NLM_F_REQUEST | NLM_F_ACK)
        head = wire.NLMSGHDR.unpack_from(last.msg.data)
        sequence, pid = head[3], head[4]
        genid = b"" if generation is None else wire.be32(_BATCH_GENID, generation)
        marks = [(_BATCH_BEGIN, _nfgenmsg(messages.SUBSYSTEM, 0) + genid)]
        parts = [wire.frame(kind, NLM_F_REQUEST, sequence, pid, body) for kind, body in marks]
        for message in encoded[:-1]:
            kind = messages.SUBSYSTEM << 8 | message.kind
            parts.append(wire.frame(kind, NLM_F_REQUEST | message.flags, sequence, pid, _nfgenmsg() + message.payload))
        parts.append(last.msg.data)
        if not try_only:
            # A batch without an end is examined and dropped (nfnetlink_rcv_batch()).
            parts.append(wire.frame(_BATCH_END, NLM_F_REQUEST, sequence, pid, _nfgenmsg(messages.SUBSYSTEM, 0)))
        await self._send_batch(b"".join(parts))
        await self._acknowledged(last)

    async def _try_owning(self) -> None:
        """Find out once whether this kernel knows tables that are owned and stay (NFT_TABLE_F_PERSIST, Linux 6.9)."""
        if self._owning is None:
            try:
                await self._commit([messages.TRIAL], None, try_only=True)
                self._owning = True
            except KernelError as error:
                # Any other refusal is of today, and the next reading asks again.
                self._owning = False if error.errno in {errno.EOPNOTSUPP, errno.EINVAL} else None

    def _tenure(self, tables: Iterable[bytes]) -> tuple[Tenure, int | None]:
        return messages.tenure(tables, self.held.getsockname()[0], owning=bool(self._owning))

    async def _other_holder(self) -> int | None:
        """Ask who owns the table, if it is neither we nor nobody."""
        with suppress(KernelError), _understood("read the tables"):
            return self._tenure(await self._dump(messages.GETTABLE))[1]
        return None

    async def grace(self) -> None:
        """Wait for the packets that are on their way; see `Kernel.grace`."""
        await grace()

    async def _send_batch(self, data: bytes) -> None:
        endpoint.make_room(self.held, len(data))
        try:
            await asyncio.to_thread(self._netlink.socket.send, data)
        except OSError as error:
            what = f"send {len(data)} bytes to the kernel"
            if error.errno == errno.EMSGSIZE:
                what += (
                    " in one piece, which takes CAP_NET_ADMIN in the first user namespace, or, by root there, "
                    f"`sysctl -w net.core.wmem_max={-(-len(data) // 2**20) * 2**20}`"
                )
            raise KernelError(error.errno or errno.EIO, what) from error

    async def _prepare(self, message: Message, flags: int) -> NetlinkRequest:
        """Make a request ready to be sent, on a new wrapping of the socket if the last one broke."""
        if self._broken is not None:
            await self._close()
            try:
                await self._open()
            except OSError as error:
                raise KernelError(error.errno or errno.EIO, "use the netlink socket again") from error
        body = _nfgenmsg() + message.payload
        raw = _Raw(messages.SUBSYSTEM << 8 | message.kind, flags | message.flags, body)
        request = NetlinkRequest(self._netlink, raw, parser=_parse)
        await request.prepare()
        return request

    async def _dump(self, kind: int, name: str | None = None) -> tuple[bytes, ...]:
        return await self._ask(messages.request(kind, name), f"read {name or 'the table'}")

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

        with self._asked(lambda: "read the sets"), _understood("read the sets"):
            await asyncio.to_thread(read)
        return dumped, made

    async def _ask(self, message: Message, what: str) -> tuple[bytes, ...]:
        with self._asked(lambda: what):
            return await asyncio.to_thread(self._asking.ask, message)

    @contextmanager
    def _asked(self, what: Callable[[], str]) -> Iterator[None]:
        """Have the socket for questions open, and turn what goes wrong into `KernelError`."""
        try:
            # Here, for it belongs to the namespace of this thread.
            self._asking.open()
            yield
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, what()) from error

    async def _acknowledged(self, request: NetlinkRequest) -> None:
        """Wait until the kernel says what became of a batch."""
        what = "commit a transaction"
        self._waiting = request.msg_seq
        loop = asyncio.get_running_loop()
        patience = loop.call_later(_PATIENCE, self._break, errno.ETIMEDOUT)
        try:
            async for _ in request.response():
                pass
        except NetlinkError as error:
            raise KernelError(error.code, what) from error
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, what) from error
        finally:
            self._waiting = None
            patience.cancel()
        if self._broken is not None:
            raise KernelError(self._broken, what)

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


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turn an answer that isn't what it claims to be into `KernelError`: whoever asked tries again, and says so."""
    try:
        yield
    except wire.WireError as error:
        raise KernelError(errno.EBADMSG, f"{what}, of which this came back: {error}") from error
