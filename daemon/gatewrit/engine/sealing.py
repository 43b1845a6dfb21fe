"""Whether a policy directory is what enough people have signed, octet by octet, and nothing older than that.

Everything that the manifest names is read once, compared with it, and parsed from memory: whatever becomes of the disk
meanwhile, what was vouched for is what is parsed. Nothing is parsed before all of it is vouched for.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gatewrit.engine import durable
from gatewrit.engine.snapshot import Accepted
from gatewrit.policy import files
from gatewrit.policy.faults import all_of, fault
from gatewrit.policy.files import MANIFEST
from gatewrit.policy.instant import LAST
from gatewrit.policy.load import policy_files
from gatewrit.policy.ranges import MAX_LIST_BYTES
from gatewrit.policy.terms import Place
from gatewrit.signing import manifest as text
from gatewrit.signing import sshsig
from gatewrit.signing.keys import SignatureError
from gatewrit.signing.manifest import Manifest, ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gatewrit.policy.faults import Code
    from gatewrit.policy.lists import ListFile
    from gatewrit.policy.terms import Fault, Severity
    from gatewrit.signing.keys import PublicKey

#: What the highest manifest that was ever accepted is kept in, in the state directory.
FILE = "manifest.json"
#: More signature files aren't looked into: whoever puts so many there wants to keep us busy.
_MOST_SIGNATURES = 64
#: So many files that differ, or people, are named; the others are counted.
_TOLD = 4


@dataclass(frozen=True, slots=True)
class Signing:
    """Who may sign, and how many of them must."""

    required: int = 0
    keys: tuple[PublicKey, ...] = ()


class NotSealedError(Exception):
    """A directory that nobody vouches for as it is: what is wrong with it, the first fault being the reason."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Seal:
    """A manifest as it lies in a directory, by which keys it is validly signed, and which signatures don't count."""

    manifest: Manifest
    digest: str
    signers: tuple[PublicKey, ...]
    ignored: tuple[Fault, ...] = ()

    def accepted(self, at: int) -> Accepted:
        """Give what is to be kept of it."""
        signers = tuple(map(str, self.signers))
        return Accepted(self.manifest.serial, self.digest, self.manifest.made, signers, at)


def vouch(
    folder: files.Folder, signing: Signing, last: Accepted | None, before: Mapping[str, ListFile]
) -> tuple[files.Folder, Seal]:
    """Give the folder as it was signed, with every file in memory; raises `NotSealedError` or `RefusedFile`.

    `last` is the highest manifest that was accepted so far. Lists are taken from `before` where they are the same. Only
    what enough people signed is parsed, the manifest too.
    """
    try:
        written = files.read(folder, MANIFEST, text.MAX_BYTES).data
    except files.RefusedFile as refused:
        raise NotSealedError((_unreadable(folder, refused),)) from None
    signers, ignored = _signers(folder, signing, written)
    if (reason := _lacking(folder, written, signers, signing)) is not None:
        raise NotSealedError((reason, *ignored))
    try:
        seal = Seal(text.parse(written), text.digest(written), signers, ignored)
    except ManifestError as error:
        place = Place(posixpath.join(folder.path, MANIFEST), error.line, 1)
        raise NotSealedError((fault(place, "manifest_invalid", str(error)), *ignored)) from None
    if (reason := _outdated(folder, seal, last)) is not None:
        raise NotSealedError((reason, *ignored))
    return _sealed(folder, seal, before), seal


def differences(folder: files.Folder, manifest: Manifest, held: Mapping[str, str]) -> tuple[str, ...]:
    """Say what is otherwise in a folder than in a manifest; `held` are its files' digests, as far as they exist."""
    try:
        unnamed = [path for path in policy_files(folder) if path not in manifest.files]
    except files.RefusedFile as refused:
        return (f"what lies in it can't be listed: {refused.message}",)
    gone = [path for path in manifest.files if path not in held]
    changed = [path for path, digest in held.items() if manifest.files[path] != digest]
    said = ((changed, "not as signed"), (gone, "not there or unreadable"), (unnamed, "not in the manifest"))
    return tuple(f"{_some(paths)} ({what})" for paths, what in said if paths)


def load_accepted(state: Path) -> Accepted | None:
    """Read back the highest manifest that was accepted, None if none was; raises `ValueError` or `OSError`."""
    value = durable.read_json(state / FILE)
    if value is None:
        return None
    match value:
        case {
            "version": 1,
            "serial": int(serial),
            "digest": str(digest),
            "made": int(made),
            "signers": [*signers],
            "at": int(at),
        } if 0 < serial <= text.MAX_SERIAL and all(0 <= each <= LAST for each in (made, at)):
            return Accepted(serial, digest, made, tuple(map(str, signers)), at)
    raise ValueError(f"not a manifest that was accepted: {value!r:.200}")


def save_accepted(state: Path, accepted: Accepted) -> None:
    """Keep the highest manifest that was accepted; raises `OSError`."""
    durable.write_json(state / FILE, {"version": 1, **document(accepted)})


def document(accepted: Accepted) -> dict[str, Any]:
    """Give it as JSON."""
    return {
        "serial": accepted.serial,
        "digest": accepted.digest,
        "made": accepted.made,
        "signers": list(accepted.signers),
        "at": accepted.at,
    }


def unknown(state: Path, error: Exception) -> NotSealedError:
    """Say that the highest manifest that was accepted can't be read back, so that none can be told from older ones."""
    message = f"which manifest was accepted last can't be read ({error}), so nobody can tell whether this one is older"
    return NotSealedError((fault(Place(str(state / FILE), 1, 1), "manifest_unknown", message),))


def _unreadable(folder: files.Folder, refused: files.RefusedFile) -> Fault:
    if refused.code != "not_found":
        return _against(folder, MANIFEST, refused.code, refused.message)
    message = f"there is no {MANIFEST}, so nobody vouches for what is in this directory"
    return _against(folder, MANIFEST, "not_signed", message)


def _signers(folder: files.Folder, signing: Signing, written: bytes) -> tuple[tuple[PublicKey, ...], tuple[Fault, ...]]:
    """Give the keys by which the manifest is validly signed, and say which signatures don't count."""
    signers: dict[bytes, tuple[PublicKey, str]] = {}
    ignored = []
    known = {each.blob: each for each in signing.keys}
    named = [name for name in files.names(folder) if files.is_signature(name)] if known else []
    for name in named[:_MOST_SIGNATURES]:
        try:
            key = _signer(files.read(folder, name, sshsig.MAX_BYTES).data, written, known)
        except (SignatureError, files.RefusedFile) as error:
            ignored.append(_doesnt_count(folder, name, str(error)))
            continue
        if key.blob in signers:
            again = f"{key} has signed already, in {signers[key.blob][1]}; each key counts once"
            ignored.append(_doesnt_count(folder, name, again))
        else:
            signers[key.blob] = key, name
    if more := named[_MOST_SIGNATURES:]:
        rest = f"from here on {len(more)} signature files aren't looked into; remove those that aren't needed"
        ignored.append(_doesnt_count(folder, more[0], rest))
    return tuple(key for key, _ in signers.values()), tuple(ignored)


def _doesnt_count(folder: files.Folder, name: str, why: str) -> Fault:
    return _against(
        folder, name, "signature_ignored", f"this signature of the manifest doesn't count: {why}", "warning"
    )


def _signer(armored: bytes, written: bytes, known: Mapping[bytes, PublicKey]) -> PublicKey:
    """Give the key by which a signature of the manifest is valid; raises `SignatureError`."""
    signature = sshsig.read_signature(armored)
    key = known.get(signature.key)
    if key is None:
        raise SignatureError(f"its key isn't one of signatures.keys: {signature.fingerprint}")
    try:
        sshsig.check(signature, key, written)
    except SignatureError as error:
        raise SignatureError(f"by {key}: {error}") from None
    return key


def _lacking(folder: files.Folder, written: bytes, signers: tuple[PublicKey, ...], signing: Signing) -> Fault | None:
    have = len(signers)
    if have >= signing.required:
        return None
    others = [key.called for key in signing.keys if key not in signers]
    who = _some(key.called for key in signers) if have else "nobody who may"
    message = (
        f"the manifest that lies here ({text.digest(written)[:19]}…) has {have} of the {signing.required} signatures "
        f"that it needs: signed by {who}; needed: {signing.required - have} more, of {_some(others)}"
    )
    return _against(folder, MANIFEST, "not_signed", message)


def _outdated(folder: files.Folder, seal: Seal, last: Accepted | None) -> Fault | None:
    serial = seal.manifest.serial
    if last is None or serial > last.serial or (serial, seal.digest) == (last.serial, last.digest):
        return None
    if serial == last.serial:
        message = f"another manifest of the same serial {serial} was accepted here ({last.digest[:19]}…)"
    else:
        message = f"manifest serial {serial} is older than {last.serial}, which was accepted here"
    when = f"on {text.instant(last.at)}"
    return _against(folder, MANIFEST, "manifest_old", f"{message} {when}; a new one needs a serial over {last.serial}")


def _sealed(folder: files.Folder, seal: Seal, before: Mapping[str, ListFile]) -> files.Folder:
    """Read every file that the manifest names; raises `NotSealedError` unless all of it is as it says, and no more."""
    contents: dict[str, files.Contents] = {}
    held: dict[str, str] = {}
    for path in seal.manifest.files:
        old = before.get(path)
        try:
            found = files.read(folder, path, MAX_LIST_BYTES, old and old.contents)
        except files.RefusedFile:
            continue
        # What is the very same object was hashed when it was read.
        known = old is not None and found is old.contents
        contents[path] = found
        held[path] = old.part.sha256 if known and old is not None else sha256(found.data).hexdigest()
    if wrong := differences(folder, seal.manifest, held):
        message = f"this directory isn't what manifest serial {seal.manifest.serial} says: {'; '.join(wrong)}"
        raise NotSealedError((_against(folder, MANIFEST, "not_as_signed", message), *seal.ignored))
    return replace(folder, sealed=contents)


def _some(names: Iterable[str]) -> str:
    """Name the first few, and count the others."""
    several = list(names)
    more = [f"{len(several) - _TOLD} more"] if len(several) > _TOLD else []
    return all_of([*several[:_TOLD], *more])


def _against(folder: files.Folder, name: str, code: Code, message: str, severity: Severity = "error") -> Fault:
    return fault(Place(posixpath.join(folder.path, name), 1, 1), code, message, severity)
