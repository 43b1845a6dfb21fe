"""How everything stood after a row of the journal, found by following the rows. Pure.

A checkpoint holds it for the rows that are gone, so that what was ordered long ago and still holds isn't forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gatewrit.engine.durable import whole
from gatewrit.engine.journal.rows import canonical
from gatewrit.kernel.ruleset import HOOK_NUMBERS
from gatewrit.policy.instant import LAST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatewrit.engine.journal.rows import Row

VERSION = 1
#: Kinds that open a problem; the kind `mended` closes it.
OPENING = frozenset({"problem", "refused", "clock"})


@dataclass(frozen=True, slots=True)
class Stood:
    """One policy: the texts that count (None once it is gone) and those whose rules the kernel has (None if none).

    `texts` and `enforced` have the shape of `Kept.document_json`. `since` is when the kernel got rules for it, in
    epoch seconds; `state` is the contract's word; `suspended` what was said with a suspension by hand.
    """

    texts: Mapping[str, Any] | None = None
    revision: int | None = None
    enforced: Mapping[str, Any] | None = None
    since: int | None = None
    state: str | None = None
    suspended: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what nobody wrote, so that an answer about the past meets no surprise: `ValueError`, `KeyError`."""
        if self.since is not None:
            whole(self.since, LAST)
        if self.suspended is not None:
            whole(self.suspended["until"], LAST)

    @property
    def bare(self) -> bool:
        """Whether there is nothing left to know."""
        return self.texts is None and self.enforced is None and self.suspended is None


@dataclass(slots=True)
class Standing:
    """All that the journal says up to one row. `running` is whether a daemon was; `gateway` what it said of itself.

    `problems` are those that were open, by code, policy and place, each with the digest of the texts that were refused
    (`telling`), None if none were; `everything` is a suspension by hand of all policies.
    """

    policies: dict[str, Stood] = field(default_factory=dict)
    problems: dict[tuple[str, str | None, str | None], str | None] = field(default_factory=dict)
    generation: int | None = None
    digest: str | None = None
    running: bool = False
    gateway: dict[str, Any] = field(default_factory=dict)
    everything: Mapping[str, Any] | None = None

    def copy(self) -> Standing:
        """Give one that can be changed without this one changing; the values within never change."""
        return replace(self, policies=dict(self.policies), problems=dict(self.problems))

    def follow(self, row: Row) -> None:
        """Take in a row; raises `ValueError`, `KeyError` or `TypeError` if it isn't one that was ever written."""
        self.take(row.kind, row.policy, row.content())

    def take(self, kind: str, policy: str | None, data: Mapping[str, Any]) -> None:
        """Take in what a row says. Kinds that change nothing here are for people."""
        if kind in OPENING:
            self.problems[data["code"], policy, data.get("place")] = telling(data.get("texts"))
        elif kind == "mended":
            self.problems.pop((data["code"], policy, data.get("place")), None)
        elif policy is not None:
            stood = _changed(self.policies.get(policy, Stood()), kind, data)
            self.policies[policy] = stood
            if stood.bare:
                del self.policies[policy]
        else:
            self._take_general(kind, data)

    def _take_general(self, kind: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "started":
                self.running, self.gateway = True, _gateway(data)
            case "stopped":
                self.running = False
            case "applied":
                self.generation, self.digest = data["generation"], data["digest"]
            case "removed":
                lifted = {name: replace(each, enforced=None, since=None) for name, each in self.policies.items()}
                self.policies = {name: each for name, each in lifted.items() if not each.bare}
                self.digest = None
            case "suspended":
                self.everything = dict(data)
            case "resumed":
                self.everything = None

    def texts(self) -> Iterator[Mapping[str, Any]]:
        """Give what says which texts are needed."""
        for each in self.policies.values():
            yield from (texts for texts in (each.texts, each.enforced) if texts)

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "version": VERSION,
            "policies": {
                name: {
                    "texts": each.texts,
                    "revision": each.revision,
                    "enforced": each.enforced,
                    "since": each.since,
                    "state": each.state,
                    "suspended": each.suspended,
                }
                for name, each in self.policies.items()
            },
            "problems": sorted(([*key, told] for key, told in self.problems.items()), key=str),
            "generation": self.generation,
            "digest": self.digest,
            "running": self.running,
            "gateway": self.gateway,
            "everything": self.everything,
        }

    @staticmethod
    def load(value: Mapping[str, Any]) -> Standing:
        """Make it from JSON; raises `ValueError`, `KeyError` or `TypeError`."""
        if value["version"] != VERSION:
            raise ValueError(f"version {value['version']} is not {VERSION}")
        return Standing(
            policies={name: Stood(**each) for name, each in value["policies"].items()},
            problems={
                (code, policy, place): told[0] if told else None for code, policy, place, *told in value["problems"]
            },
            generation=value["generation"],
            digest=value["digest"],
            running=value["running"],
            gateway=_gateway(value["gateway"]),
            everything=value["everything"],
        )


def _gateway(said: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a daemon said of itself; raises `ValueError` or `TypeError` for what none says."""
    tags, hooks = said.get("tags", []), said.get("hooks", [])
    if (
        not all(isinstance(each, str) for each in (said.get("name", ""), *tags))
        or not set(hooks) <= HOOK_NUMBERS.keys()
    ):
        raise ValueError("this is nothing that a gateway says of itself")
    return dict(said)


def telling(texts: Mapping[str, Any] | None) -> str | None:
    """Give the digest by which what was refused is told from what is refused next at the same place."""
    return None if texts is None else sha256(canonical(texts).encode()).hexdigest()


def _changed(stood: Stood, kind: str, data: Mapping[str, Any]) -> Stood:
    changes: dict[str, Any] = {}
    match kind:
        case "accepted":
            changes = {"texts": data["texts"], "revision": data["revision"]}
        case "gone" | "forgotten":
            changes = {"texts": None, "state": None}
        case "enforced":
            changes = {"enforced": stood.texts, "since": data["since"]}
        case "lifted":
            changes = {"enforced": None, "since": None}
        case "state":
            changes = {"state": data["now"]}
        case "suspended":
            changes = {"suspended": dict(data)}
        case "resumed" | "suspension_ended":
            changes = {"suspended": None}
    return replace(stood, **changes)
