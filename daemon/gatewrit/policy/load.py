"""A directory of files to policies: everything that is good, and every fault of everything that isn't, in one pass.

Reading files and parsing them are apart, because the daemon parses again what it kept when a file is broken or gone:
`parse_policy` and `parse_service` take bytes. A policy is complete once its services are: `resolve` joins the two, so
that the faults of a policy's own file and those of a service that it names stay apart.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from gatewrit.policy import files
from gatewrit.policy.document import (
    Broken,
    PolicyDocument,
    ServiceDocument,
    Source,
    compose_service,
    list_file,
    parse_policy,
    parse_service,
)
from gatewrit.policy.faults import fault, suggest
from gatewrit.policy.lists import SERVICES, Lists
from gatewrit.policy.model import Policy
from gatewrit.policy.ranges import covers_everything
from gatewrit.policy.terms import Place
from gatewrit.policy.yaml import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from gatewrit.policy.lists import ListFile, Shelf
    from gatewrit.policy.model import Service
    from gatewrit.policy.ranges import AddressList
    from gatewrit.policy.terms import Fault

__all__ = [
    "Broken",
    "Loaded",
    "PolicyDocument",
    "Reading",
    "ServiceDocument",
    "Source",
    "join",
    "load",
    "parse_policy",
    "parse_service",
    "read_directory",
    "resolve",
]

#: Editors' and package managers' own files, which come and go beside ours.
_PASSED_OVER = re.compile(r"\..*|.*~|.*\.dpkg-[a-z]+", re.DOTALL)

Document = TypeVar("Document", PolicyDocument, ServiceDocument)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A file as it was read, good or not: its text, when it was last changed (epoch seconds), the owner's uid.

    `path` is where it lies in the directory.
    `handle` is the policy's id or the service's name, as far as the file tells. `uses` are the services that a policy
    names, by name, or the list files of a service, by what messages call them.
    """

    kind: Literal["policy", "service", "list"]
    source: Source
    mtime: int
    uid: int
    path: str
    handle: str = ""
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a directory held at one time.

    `policies` and `services` are the good files, by id and name. `broken_policies` and `broken_services` are the
    faults of the others (a service's lists included), by what the file says it is or else by its name. A good file
    whose id another file claims too is in `duplicate_policies` or `duplicate_services` instead: the one in force may
    stay. `faults` has all faults and warnings by file and line. `missing`: the directory itself can't be read.
    `lists` are the list files that were read, by their path in the directory; `loaded` is every file that could be
    read, good or not, by what messages call it.
    """

    policies: Mapping[str, PolicyDocument]
    services: Mapping[str, ServiceDocument]
    broken_policies: Mapping[str, tuple[Fault, ...]]
    broken_services: Mapping[str, tuple[Fault, ...]]
    duplicate_policies: Mapping[str, tuple[PolicyDocument, ...]]
    duplicate_services: Mapping[str, tuple[ServiceDocument, ...]]
    faults: tuple[Fault, ...]
    missing: bool = False
    lists: Mapping[str, ListFile] = field(default_factory=lambda: MappingProxyType({}))
    loaded: Mapping[str, Loaded] = field(default_factory=lambda: MappingProxyType({}))


def read_directory(
    path: str | os.PathLike[str],
    before: Reading | None = None,
    shelf: Shelf | None = None,
    seal: Callable[[files.Folder, Mapping[str, ListFile]], files.Folder] | None = None,
) -> Reading:
    """Read every policy and service of a directory; never raises for what is in the files or becomes of them.

    What was good `before` and has the same bytes isn't parsed again, and a list file that the system shows to be
    unchanged isn't even read again. The shelf has lists that were parsed before that, and gets those that are now.

    `seal` gets the folder and the lists before, and gives the folder as somebody vouches for it; what it raises is
    raised, and nothing is parsed then.
    """
    try:
        with files.open_folder(path) as folder:
            before = before or _NOTHING
            return _read_folder(seal(folder, before.lists) if seal else folder, before, shelf)
    except files.RefusedFile as refused:
        found = fault(Place(os.fspath(path), 1, 1), refused.code, refused.message)
        return Reading({}, {}, {}, {}, {}, {}, (found,), missing=True)


def resolve(
    document: PolicyDocument, services: Mapping[str, ServiceDocument], broken: Collection[str] = ()
) -> Policy | tuple[Fault, ...]:
    """Join a policy with the services that it names; `broken` are names whose files exist and have faults."""
    faults = []
    for name, place in document.named:
        if name in services:
            continue
        if name in broken:
            message = f"the service {name} has faults of its own; this policy waits until they are mended"
            faults.append(fault(place, "service_broken", message))
        else:
            faults.append(_unknown(name, place, [*services, *broken]))
    if faults:
        return tuple(faults)
    named = {name: services[name].service for name in document.block.services}
    if covers_everything(part for service in named.values() for part in service.ranges):
        message = "these services together match every IPv4 address; name what the order means"
        return (fault(document.references[0], "too_wide", message),)
    return join(document, {name: services[name].service for name, _ in document.named})


def join(document: PolicyDocument, services: Mapping[str, Service]) -> Policy:
    """Make a policy of its document and what is there of the services that it names; some may lack."""

    def known(names: Iterable[str]) -> Mapping[str, Service]:
        return MappingProxyType({name: services[name] for name in names if name in services})

    return Policy(
        id=document.id,
        title=document.title,
        revision=document.revision,
        order=document.order,
        effective=document.effective,
        state=document.state,
        block=document.block,
        services=known(document.block.services),
        labels=document.labels,
        meaning=document.meaning,
        place=document.place,
        exceptions=document.exceptions,
        scope=document.scope,
        must_continue=known(document.must_continue),
        allow_wide=document.allow_wide,
    )


def _unknown(name: str, place: Place, known: Collection[str]) -> Fault:
    hint = suggest(name, known) or f"; add policies/{SERVICES}/{name}.yaml, or correct the name"
    return fault(place, "unknown_service", f"no file describes the service {name}{hint}")


def load(
    path: str | os.PathLike[str], judge: Callable[[Policy, PolicyDocument], tuple[Fault, ...]] | None = None
) -> tuple[tuple[Policy, ...], tuple[Fault, ...]]:
    """Read a directory for once: the policies that are good throughout, by id, and all faults.

    `judge` says what else speaks against a policy that is complete.
    """
    return judged(read_directory(path), judge)


def judged(
    reading: Reading, judge: Callable[[Policy, PolicyDocument], tuple[Fault, ...]] | None = None
) -> tuple[tuple[Policy, ...], tuple[Fault, ...]]:
    """Give the policies of a reading that are good throughout, by id, and all faults, as `load` does."""
    faults = list(reading.faults)
    policies = []
    broken = {*reading.broken_services, *reading.duplicate_services}
    for _, document in sorted(reading.policies.items()):
        resolved = resolve(document, reading.services, broken)
        against = judge(resolved, document) if judge and isinstance(resolved, Policy) else ()
        if isinstance(resolved, Policy) and not against:
            policies.append(resolved)
        faults += against if isinstance(resolved, Policy) else resolved
    return tuple(policies), tuple(sorted(faults))


_NOTHING = Reading({}, {}, {}, {}, {}, {}, ())


def _read_folder(folder: files.Folder, before: Reading, shelf: Shelf | None) -> Reading:
    lists = Lists(folder, before.lists, shelf)
    loaded: dict[str, Loaded] = {}
    named: dict[str, list[str]] = defaultdict(list)
    old_policies = {document.source.file: document for document in before.policies.values()}
    old_services = {document.source.file: document for document in before.services.values()}

    def read_policy(data: bytes, file: str) -> PolicyDocument | Broken:
        old = old_policies.get(file)
        return old if old is not None and old.source.data == data else parse_policy(data, file)

    def read_service(data: bytes, file: str) -> ServiceDocument | Broken:
        def fetch(name: str) -> AddressList:
            called = list_file(file, name)
            named[file].append(called)
            return lists.fetch(name, called)

        old = old_services.get(file)
        if old is not None and old.source.data == data:
            with suppress(files.RefusedFile):
                if all(not fetch(name).faults and fetch(name).data == had.data for name, had in old.lists.items()):
                    return old
        return compose_service(data, file, fetch)

    policies, ignored = _listed(folder, "")
    services: list[str] = []
    besides: list[str] = []
    refused: list[Fault] = []
    if SERVICES in ignored:
        try:
            services, besides = _listed(folder, SERVICES)
        except files.RefusedFile as error:
            refused.append(fault(Place(_shown(folder, SERVICES), 1, 1), error.code, error.message))
    parsed = [_read_file(folder, name, read_service, loaded) for name in services]
    loaded |= _loaded_lists(lists)
    for file, used in named.items():
        loaded[file] = replace(loaded[file], uses=tuple(dict.fromkeys(used)))
    sound, unsound, twice, more = _sort_out(parsed, "service")
    known = {*sound, *unsound, *twice}
    read = [_with_references(_read_file(folder, name, read_policy, loaded), known) for name in policies]
    good, bad, double, faults = _sort_out(read, "policy")
    faults += refused + more
    for document in [*good.values(), *(one for several in double.values() for one in several)]:
        faults += document.warnings
    unused = [name for name in (*ignored, *besides) if name not in lists.found and name != SERVICES]
    faults += [_ignored(folder, name) for name in unused if not _holds(name, lists.found)]
    return Reading(
        policies=MappingProxyType(good),
        services=MappingProxyType(sound),
        broken_policies=MappingProxyType(bad),
        broken_services=MappingProxyType(unsound),
        duplicate_policies=MappingProxyType(double),
        duplicate_services=MappingProxyType(twice),
        faults=tuple(sorted(set(faults))),
        lists=MappingProxyType(lists.good),
        loaded=MappingProxyType(loaded),
    )


def policy_files(folder: files.Folder) -> list[str]:
    """Give the paths of all policies and services that lie in a folder; raises RefusedFile."""
    policies, besides = _listed(folder, "")
    return policies + (_listed(folder, SERVICES)[0] if SERVICES in besides else [])


def _with_references(read: PolicyDocument | Broken, known: Collection[str]) -> PolicyDocument | Broken:
    """Add to the faults of a broken policy the services it names that nobody describes; `resolve` won't see it."""
    if not isinstance(read, Broken):
        return read
    unknown = [_unknown(name, place, known) for name, place in read.references if name not in known]
    return replace(read, faults=(*read.faults, *unknown))


def _listed(folder: files.Folder, below: str) -> tuple[list[str], list[str]]:
    """List the YAML files of a folder, and whatever else lies there."""
    found = [name for name in files.names(folder, below) if not (_PASSED_OVER.fullmatch(name) or files.vouches(name))]
    named = [posixpath.join(below, name) for name in found]
    return [name for name in named if name.endswith(".yaml")], [name for name in named if not name.endswith(".yaml")]


def _read_file(
    folder: files.Folder, name: str, parse: Callable[[bytes, str], Document | Broken], loaded: dict[str, Loaded]
) -> Document | Broken:
    file = _shown(folder, name)
    try:
        found = files.read(folder, name, MAX_BYTES)
        read = parse(found.data, file)
    except files.RefusedFile as refused:
        place = Place(file, 1, 1)
        hint = "; put long lists into a file for prefixes_from" if refused.code == "too_large" else ""
        against = fault(place, refused.code, f"{refused.message}{hint}")
        return Broken(posixpath.basename(file).removesuffix(".yaml"), (against,), place, guessed=True)
    loaded[file] = _loaded(read, file, found, name)
    return read


def _loaded(
    read: PolicyDocument | ServiceDocument | Broken,
    file: str,
    found: files.Contents,
    path: str,
) -> Loaded:
    kind: Literal["policy", "service"] = "service" if posixpath.dirname(path) else "policy"
    uses: tuple[tuple[str, Place], ...] = ()
    if isinstance(read, Broken):
        source, uses = Source(file, found.data, sha256(found.data).hexdigest()), read.references
    else:
        source = read.source
    if isinstance(read, PolicyDocument):
        uses = read.named
    return Loaded(kind, source, found.mtime, found.uid, path, read.handle, tuple(name for name, _ in uses))


def _loaded_lists(lists: Lists) -> dict[str, Loaded]:
    return {
        part.file: Loaded("list", Source(part.file, part.data, part.sha256), found.mtime, found.uid, path)
        for path, (part, found) in lists.good.items()
    }


_SortedOut: TypeAlias = """tuple[
    dict[str, Document], dict[str, tuple[Fault, ...]], dict[str, tuple[Document, ...]], list[Fault]
]"""


def _sort_out(read: Sequence[Document | Broken], kind: Literal["policy", "service"]) -> _SortedOut[Document]:
    """Tell good files from broken ones, and from those that claim the same id."""
    claims: dict[str, list[Document | Broken]] = defaultdict(list)
    for one in read:
        if not (isinstance(one, Broken) and one.guessed):
            claims[one.handle].append(one)
    for one in read:
        if isinstance(one, Broken) and one.guessed:
            # A file that doesn't say what it is can't contest a name that another one claims.
            handle = one.handle if one.handle not in claims else posixpath.basename(one.place.file)
            claims[handle].append(one)
    good: dict[str, Document] = {}
    broken: dict[str, tuple[Fault, ...]] = {}
    double: dict[str, tuple[Document, ...]] = {}
    faults: list[Fault] = []
    for handle, several in claims.items():
        wrong = [found for one in several if isinstance(one, Broken) for found in one.faults]
        right = [one for one in several if not isinstance(one, Broken)]
        if wrong:
            broken[handle] = tuple(wrong)
            faults += wrong
        if len(several) == 1:
            good.update((handle, one) for one in right)
        else:
            double.update({handle: tuple(right)} if right else {})
            faults += _contested(several, kind, handle)
    return good, broken, double, faults


def _contested(several: Sequence[Document | Broken], kind: Literal["policy", "service"], handle: str) -> list[Fault]:
    what = "policy id" if kind == "policy" else "service name"
    faults = []
    for one in several:
        first, *rest = (str(other.place) for other in several if other is not one)
        more = f" and {len(rest)} more" if rest else ""
        message = f"the {what} {handle} is also claimed by {first}{more}; rename or remove all but one"
        faults.append(fault(one.place, "duplicate_policy" if kind == "policy" else "duplicate_service", message))
    return faults


def _ignored(folder: files.Folder, name: str) -> Fault:
    if files.is_directory(folder, name):
        message = f"folders below aren't searched; policies lie in the directory itself, services in {SERVICES}/"
    elif posixpath.dirname(name):
        message = "this isn't read: services end in .yaml, and no service's prefixes_from names it as a list"
    else:
        message = "this isn't read: only files that end in .yaml are"
    return fault(Place(_shown(folder, name), 1, 1), "ignored_file", message, "warning")


def _holds(name: str, lists: Iterable[str]) -> bool:
    return any(path.startswith(f"{name}/") for path in lists)


def _shown(folder: files.Folder, name: str) -> str:
    """Give a name for messages: joined to the path as given, and printable whatever its bytes are."""
    path = posixpath.join(folder.path, name)
    if path.isprintable():
        return path
    return os.fsencode(path).decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")
