"""The last good policies on disk: what stays in force when a file is broken or gone, also over a restart.

`policies/ID.json` in the state directory says which texts make up the last good revision; `texts/SHA256` holds each
text (a policy, a service, a list) once, by content. A text that no longer has its digest is as good as gone, and said
to be. Everything is read by the same parser as the policy directory: nothing in here is trusted more.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gatewrit.engine import durable
from gatewrit.policy.load import Broken, PolicyDocument, ServiceDocument, parse_policy, parse_service

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from gatewrit.policy.lists import Shelf
    from gatewrit.policy.load import Source

VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """One policy's last good revision: its own document, and the services that it names as they last were good."""

    document: PolicyDocument
    services: Mapping[str, ServiceDocument]

    def same(self, other: Kept) -> bool:
        """Whether both are made of the very same documents."""
        mine, theirs = self.services, other.services
        return self.document is other.document and (
            mine.keys() == theirs.keys() and all(mine[name] is theirs[name] for name in mine)
        )

    def sources(self) -> Iterator[Source]:
        """Give everything that it was read from."""
        yield self.document.source
        for service in self.services.values():
            yield service.source
            yield from service.lists.values()

    def texts(self) -> dict[str, bytes]:
        """Give every text it is made of, by digest."""
        return {source.sha256: source.data for source in self.sources()}

    def document_json(self) -> dict[str, Any]:
        """Say which texts it is made of."""
        return {
            "version": VERSION,
            "policy": _reference(self.document.source),
            "services": {
                name: {
                    **_reference(service.source),
                    "lists": {called: _reference(source) for called, source in service.lists.items()},
                }
                for name, service in self.services.items()
            },
        }


class StoreError(Exception):
    """A kept policy that can't be read back: which, why, and what that means."""


#: What `read_kept` raises for something else than `document_json` said; the last where it nests without end.
NOT_KEPT = (StoreError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(slots=True)
class Store:
    """The state directory's part for policies. Calls block on the disk; `OSError` says what failed.

    `shelf` has lists of them already parsed.
    """

    root: Path
    shelf: Shelf | None = None
    #: Gives the digests of texts that stay though no policy is made of them: those of earlier generations.
    spared: Callable[[], frozenset[str]] = frozenset
    #: What the disk was last brought to, whole; None if nobody knows what it has.
    _saved: Mapping[str, Kept] | None = field(default=None, init=False)
    #: Whether something couldn't be written, so that any file may lack or be an old one.
    _failed: bool = field(default=False, init=False)
    #: Whether something was found to be damaged, so that nothing on the disk is taken for what its name says.
    _damaged: bool = field(default=False, init=False)

    def load(self) -> tuple[dict[str, Kept], tuple[str, ...]]:
        """Read back all kept policies, and say what couldn't be."""
        kept: dict[str, Kept] = {}
        damaged: list[str] = []
        known: dict[str, ServiceDocument] = {}
        folder = self.root / "policies"
        try:
            paths = durable.documents(folder)
        except OSError as error:
            paths, damaged = [], [f"{folder}: {error.strerror}"]
        for path in paths:
            try:
                found = self._read(path, known)
            except (OSError, *NOT_KEPT) as error:
                damaged.append(f"{path}: {error}")
            else:
                kept[found.document.id] = found
        self._damaged = bool(damaged)
        return kept, tuple(damaged)

    def save(self, kept: Mapping[str, Kept], before: Mapping[str, Kept]) -> None:
        """Bring the disk from `before` to `kept`: texts, what refers to them, then away with what nothing needs.

        After what was saved last only the difference is looked at; otherwise every file.
        """
        known, self._saved = self._saved is before, None
        failed, self._failed = self._failed, True
        if known:
            self._save_changes(kept, before)
        else:
            self._save_all(kept, before, anew=failed or self._damaged)
        self._saved, self._failed, self._damaged = kept, False, False

    def _save_changes(self, kept: Mapping[str, Kept], before: Mapping[str, Kept]) -> None:
        changed = {name: each for name, each in kept.items() if before.get(name) is not each}
        texts = {digest: text for each in changed.values() for digest, text in each.texts().items()}
        left = [each for name, each in before.items() if name in changed or name not in kept]
        old = {source.sha256 for each in left for source in each.sources()}
        folder = self.root / "texts"
        durable.write_all({folder / digest: text for digest, text in texts.items() if not _has(folder / digest, text)})
        self._refer(changed, before)
        durable.remove_all(self._path(name) for name in before if name not in kept)
        self.drop(old - texts.keys(), kept)

    def drop(self, texts: Collection[str], kept: Mapping[str, Kept]) -> None:
        """Delete those of some texts, by digest, that neither what counts nor an earlier generation needs."""
        if texts:
            gone = {*texts} - self.spared() - {source.sha256 for each in kept.values() for source in each.sources()}
            durable.remove_all(self.root / "texts" / digest for digest in gone)

    def put_together(self, policies: Mapping[str, Any], kept: Mapping[str, Kept]) -> dict[str, Kept]:
        """Give policies by what `document_json` said of them; those that are as in `kept` are those.

        Raises `OSError` or one of `NOT_KEPT`.
        """
        known: dict[str, ServiceDocument] = {}
        found = {}
        for name, value in policies.items():
            now = kept.get(name)
            same = now is not None and now.document_json() == value
            found[name] = now if now is not None and same else read_kept(value, self._text, self.shelf, known)
        return found

    def _save_all(self, kept: Mapping[str, Kept], before: Mapping[str, Kept], *, anew: bool) -> None:
        wanted = {digest: text for each in kept.values() for digest, text in each.texts().items()}
        texts = self.root / "texts"
        sizes = {each.name: each.stat().st_size for each in os.scandir(texts)} if texts.is_dir() else {}
        there = {digest for digest, size in sizes.items() if size == len(wanted.get(digest, b"")) and not self._damaged}
        durable.write_all({texts / digest: text for digest, text in wanted.items() if digest not in there})
        self._refer(kept, {} if anew else before)
        known = {path.stem for path in (self.root / "policies").glob("*.json")} if anew else before.keys()
        durable.remove_all(self._path(name) for name in known if name not in kept)
        self.drop(sizes.keys() - wanted.keys(), kept)

    def _refer(self, kept: Mapping[str, Kept], before: Mapping[str, Kept]) -> None:
        """Write what refers to texts, where it differs."""
        durable.write_all(
            {
                self._path(name): durable.to_json(each.document_json())
                for name, each in kept.items()
                if name not in before or _differs(before[name], each)
            }
        )

    def _path(self, name: str) -> Path:
        return self.root / "policies" / f"{name}.json"

    def _read(self, path: Path, known: dict[str, ServiceDocument]) -> Kept:
        value = durable.read_json(path)
        if value is None or value["version"] != VERSION:
            raise StoreError(f"version {None if value is None else value['version']} isn't one that I know")
        return read_kept(value, self._text, self.shelf, known)

    def _text(self, digest: str) -> bytes:
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest!r} is not a digest")
        text = durable.read(self.root / "texts" / digest)
        if sha256(text).hexdigest() != digest:
            raise StoreError(f"the text {digest} has changed on the disk")
        return text


def _has(path: Path, text: bytes) -> bool:
    """Whether a text lies on the disk; its name is its digest, so that only half of it could be there."""
    try:
        return path.stat().st_size == len(text)
    except FileNotFoundError:
        return False


def _differs(one: Kept, other: Kept) -> bool:
    return one is not other and one.document_json() != other.document_json()


def _reference(source: Source) -> dict[str, str]:
    return {"file": source.file, "sha256": source.sha256}


def read_kept(
    value: Mapping[str, Any],
    text: Callable[[str], bytes],
    shelf: Shelf | None = None,
    known: dict[str, ServiceDocument] | None = None,
) -> Kept:
    """Put a kept policy together from what `document_json` said; `text` fetches by digest.

    `known` are services that were put together before, by what was said of them; those that are now go there too.
    Raises one of `NOT_KEPT`, and whatever `text` raises.
    """

    def fetch(reference: Mapping[str, Any]) -> bytes:
        return text(str(reference["sha256"]))

    def file(reference: Mapping[str, Any]) -> str:
        if not isinstance(reference["file"], str):
            raise StoreError(f"{reference['file']!r:.100} is no file's name")
        return reference["file"]

    document = parse_policy(fetch(value["policy"]), file(value["policy"]))
    if isinstance(document, Broken):
        raise StoreError(f"{document.faults[0]}")
    known = {} if known is None else known
    services = {}
    for name, each in value["services"].items():
        said = json.dumps(each, sort_keys=True)
        if said not in known:
            lists = {called: fetch(source) for called, source in each["lists"].items()}
            service = parse_service(fetch(each), file(each), lists, shelf)
            if isinstance(service, Broken):
                raise StoreError(f"{service.faults[0]}")
            known[said] = service
        services[name] = known[said]
    return Kept(document, services)
