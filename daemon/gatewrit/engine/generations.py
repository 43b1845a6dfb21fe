"""What counted before, generation by generation: so that a change which was wrong can be taken back.

`generations/NUMBER.json` in the state directory says which texts made up the policies from that generation of the
ruleset on, until the next one that is there: an instant that comes makes a generation too, but no other policies. The
texts lie where those that count now do (`Store`), which spares them for as long as a generation names them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gatewrit.engine import durable
from gatewrit.engine.store import NOT_KEPT
from gatewrit.policy.instant import LAST, utc_text
from gatewrit.policy.terms import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gatewrit.engine.store import Kept, Store
    from gatewrit.policy.load import PolicyDocument

VERSION = 1
#: So many are kept.
MOST = 20


class UnknownGenerationError(Exception):
    """A generation that isn't kept, or can't be read; the message says which are."""


@dataclass(frozen=True, slots=True)
class Generation:
    """From which number on it counted, since when (epoch seconds), and what is told apart by.

    `restores` is the generation that it put back, if it came of a roll-back. `texts` are the digests of its texts.
    """

    number: int
    at: int
    content: str
    policies: int
    restores: int | None
    texts: frozenset[str]


@dataclass(slots=True)
class Generations:
    """Those of one state directory. Calls block on the disk; `OSError` says what failed."""

    state: Path
    known: dict[int, Generation] = field(default_factory=dict)

    def load(self) -> tuple[str, ...]:
        """See what is there, and say what can't be read."""
        lost = []
        folder = self.state / "generations"
        try:
            paths = durable.documents(folder)
        except OSError as error:
            return (f"{folder}: {error.strerror}",)
        for path in paths:
            try:
                found = _generation(int(path.stem), durable.read_json(path) or {})
            except (OSError, *NOT_KEPT) as error:
                lost.append(f"{path}: {error}")
            else:
                self.known[found.number] = found
        return tuple(lost)

    @property
    def texts(self) -> frozenset[str]:
        """The digests of all texts that some generation names."""
        return frozenset().union(*(each.texts for each in self.known.values()))

    def covering(self, number: int) -> Generation | None:
        """Give what counted in a generation, by its own number or the last one before it."""
        return self.known.get(max((each for each in self.known if each <= number), default=-1))

    def before(self, number: int) -> Generation | None:
        """Give what else counted before what counts in a generation; roll-backs don't count as steps of their own."""
        now = self.covering(number)
        if now is None:
            return None
        origin = now.number if now.restores is None else now.restores
        others = [each for each in self.known.values() if each.content != now.content and each.restores is None]
        earlier = [each for each in others if each.number < origin]
        return max(earlier, key=lambda each: each.number, default=None)

    def settled(self, number: int, at: int, ordered: int) -> int:
        """Give the generation up to `number` that came last of those since `at` or before, or up to `ordered`."""
        now = self.covering(number)
        if now is None or now.at <= at or now.number <= ordered:
            return number
        old = [
            each.number
            for each in self.known.values()
            if each.number <= number and (each.at <= at or each.number <= ordered)
        ]
        return max(old, default=number)

    def add(self, number: int, at: int, kept: Mapping[str, Kept], restores: int | None = None) -> frozenset[str]:
        """Note what counts from a generation on; gives the texts that no generation names any more."""
        policies = {name: each.document_json() for name, each in kept.items()}
        value = {"version": VERSION, "at": at, "restores": restores, "policies": policies}
        made, before = _generation(number, value), self.covering(number)
        if before is not None and before.content == made.content:
            return frozenset()
        texts = self.texts
        durable.write_json(self._path(number), value)
        self.known[number] = made
        self._drop(sorted(self.known)[:-MOST])
        return texts - self.texts

    def read(self, number: int, store: Store, kept: Mapping[str, Kept]) -> dict[str, Kept]:
        """Give the policies that counted in a generation; those that count as they did then are those in `kept`.

        Raises `UnknownGenerationError`.
        """
        found = self.covering(number)
        if found is None or number < 0:
            raise UnknownGenerationError(f"generation {number} isn't kept; {self.told()}")
        path = self._path(found.number)
        try:
            policies = (durable.read_json(path) or {})["policies"]
            if _content(policies) != found.content:
                raise ValueError("it has changed on the disk")
            return store.put_together(policies, kept)
        except (OSError, *NOT_KEPT) as error:
            raise UnknownGenerationError(f"generation {number} can't be read: {path}: {error}; {self.told()}") from None

    def forget(self, policy: str) -> frozenset[str]:
        """Take one policy out of all generations; gives the texts that no generation names any more."""
        texts = self.texts
        for number in list(self.known):
            value = durable.read_json(self._path(number))
            if value is None or policy not in value["policies"]:
                continue
            del value["policies"][policy]
            durable.write_json(self._path(number), value)
            self.known[number] = _generation(number, value)
        return texts - self.texts

    def told(self) -> str:
        """Say which generations are kept."""
        if not self.known:
            return "none is kept yet"
        listed = [f"{each.number} (since {utc_text(each.at)})" for _, each in sorted(self.known.items())]
        return f"kept are those from {', '.join(listed)} on"

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            durable.remove(self._path(number))
            del self.known[number]

    def _path(self, number: int) -> Path:
        return self.state / "generations" / f"{number}.json"


def put_back(then: Mapping[str, Kept], now: Mapping[str, Kept], at: int) -> dict[str, Kept]:
    """Give the policies of `then`, but for what has been lifted since: rescinded, suspended or lapsed stays so.

    A policy that wasn't there then goes. `at` is in epoch seconds.
    """
    lifted = {name: each for name, each in now.items() if _lifted(each.document, at)}
    return {**then, **lifted}


def _lifted(document: PolicyDocument, at: int) -> bool:
    until = document.effective.until
    return document.state is not State.ACTIVE or (until is not None and until.epoch <= at)


def _generation(number: int, value: Mapping[str, Any]) -> Generation:
    """Read what `add` wrote; raises one of `NOT_KEPT`."""
    if value["version"] != VERSION:
        raise ValueError(f"version {value['version']!r:.20} isn't one that I know")
    policies, restores = value["policies"], value["restores"]
    texts = {str(text["sha256"]) for each in policies.values() for text in _texts(each)}
    restored = None if restores is None else durable.whole(restores)
    return Generation(
        number, durable.whole(value["at"], LAST), _content(policies), len(policies), restored, frozenset(texts)
    )


def _texts(policy: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield policy["policy"]
    for service in policy["services"].values():
        yield service
        yield from service["lists"].values()


def _content(policies: Mapping[str, Any]) -> str:
    return sha256(durable.to_json(policies)).hexdigest()
