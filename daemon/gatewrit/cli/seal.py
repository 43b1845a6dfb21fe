"""The verb that writes down what is to be signed, and what `check` says of signatures.

A verb of its own, because no other one writes into a policy directory as a whole: `check` only looks, `new` and
`import` write one file each, and signing itself is OpenSSH's.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewrit.cli.app import FINE, REFUSED, Quit, print_faults, print_json, refuse, verb
from gatewrit.cli.service import rails, signing
from gatewrit.cli.taken import last_accepted
from gatewrit.compile.rails import Judge
from gatewrit.engine import durable, sealing
from gatewrit.engine.sealing import NotSealedError, vouch
from gatewrit.policy import files
from gatewrit.policy.files import MANIFEST, RefusedFile, open_folder
from gatewrit.policy.load import judged, read_directory
from gatewrit.signing import manifest as text
from gatewrit.signing.manifest import Manifest, ManifestError
from gatewrit.signing.sshsig import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.engine.snapshot import Accepted
    from gatewrit.policy.files import Folder
    from gatewrit.policy.terms import Fault
    from gatewrit.settings import Settings


@verb("gatewrit manifest && ssh-keygen -Y sign -n gatewrit -f KEY < MANIFEST > MANIFEST.alice.sig")
@click.argument("path", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--serial", type=click.IntRange(1, text.MAX_SERIAL), help="Its serial [the highest known and 1].")
def manifest(settings: Settings, path: Path | None, serial: int | None, *, as_json: bool) -> int:
    """Write the manifest of the policies, or of those at PATH, for people to sign.

    It names every policy, service and list with its SHA-256. Nothing is written if it already says just that.
    Signatures of another manifest are taken away, as they mean nothing any more.
    """
    directory = path or settings.policies
    reading = read_directory(directory)
    _, faults = judged(reading, Judge(rails(settings)).faults)
    if any(fault.severity == "error" for fault in faults):
        refuse(faults, as_json=as_json, meaning="no manifest was written; correct the faults above")
    if not as_json:
        print_faults(faults)
    held = {each.path: each.source.sha256 for each in reading.loaded.values()}
    try:
        with open_folder(directory) as folder:
            before, accepted = _before(folder), _accepted(settings)
            signatures = [name for name in files.names(folder) if files.is_signature(name)]
        if (
            before is not None
            and before.files == held
            and serial in {None, before.serial}
            and _counts(before, accepted)
        ):
            return _tell(directory, before, (), written=False, as_json=as_json)
        highest = max(before.serial if before else 0, accepted.serial if accepted else 0)
        if serial is not None and serial <= highest:
            raise Quit(f"serial {serial} isn't over {highest}, the highest known here; leave --serial out", REFUSED)
        made = Manifest(serial or highest + 1, int(time.time()), held)
        written = made.text()
        target = directory / MANIFEST
        durable.write(target, written)
        # Signers read it, who needn't be who wrote it.
        target.chmod(0o644)
        durable.remove_all(directory / name for name in signatures)
    except ManifestError as error:
        hint = f"the {MANIFEST} that lies there, line {error.line}: {error}; take it away" if error.line else str(error)
        raise Quit(f"{directory}: {hint}; no manifest was written", REFUSED) from None
    except (OSError, RefusedFile) as error:
        raise Quit(f"{directory / MANIFEST}: {error}; no manifest was written") from None
    return _tell(directory, made, signatures, written=True, as_json=as_json)


def sealed(settings: Settings, directory: Path) -> tuple[tuple[Fault, ...], str | None]:
    """Say what is wrong with a directory's manifest and signatures, or in a sentence that they are right.

    Where none are required, a manifest that lies there is compared with the files all the same: signers want to know.
    """
    who = signing(settings)
    try:
        with open_folder(directory) as folder:
            if not who.required and MANIFEST not in files.names(folder):
                return (), None
            _, seal = vouch(folder, who, last_accepted(settings), {})
    except NotSealedError as refused:
        return refused.faults if who.required else tuple(map(_warning, refused.faults)), None
    except RefusedFile:
        # That the directory can't be read is told already.
        return (), None
    said = f"manifest serial {seal.manifest.serial} of {text.instant(seal.manifest.made)} names exactly these files"
    if not who.keys:
        return (), f"{said}; who signed it wasn't verified, as signatures.keys is empty"
    signers = ", ".join(map(str, seal.signers)) or "nobody who may"
    return seal.ignored, f"{said}; signed by {signers} (required: {who.required})"


def _warning(found: Fault) -> Fault:
    return replace(found, severity="warning")


def _before(folder: Folder) -> Manifest | None:
    """Give the manifest that lies there; raises `ManifestError` or `RefusedFile`."""
    if MANIFEST not in files.names(folder):
        return None
    return text.parse(files.read(folder, MANIFEST, text.MAX_BYTES).data)


def _accepted(settings: Settings) -> Accepted | None:
    """Give the highest manifest that was accepted here, as far as whoever calls may know."""
    try:
        return sealing.load_accepted(settings.state)
    except (OSError, ValueError) as error:
        click.echo(
            f"gatewrit: which manifest was accepted last can't be read here ({error}); the serial follows the one that "
            "lies in the directory",
            err=True,
        )
        return None


def _counts(manifest: Manifest, accepted: Accepted | None) -> bool:
    """Whether a manifest can still be accepted, once it is signed."""
    if accepted is None or manifest.serial > accepted.serial:
        return True
    return text.digest(manifest.text()) == accepted.digest


def _tell(directory: Path, made: Manifest, removed: Sequence[str], *, written: bool, as_json: bool) -> int:
    target, digest = directory / MANIFEST, text.digest(made.text())
    if as_json:
        said = {"path": str(target), "serial": made.serial, "made": text.instant(made.made), "digest": digest}
        print_json({**said, "files": len(made.files), "written": written, "removed": list(removed)})
        return FINE
    what = "written" if written else "already says just this, so nothing was written"
    click.echo(f"{target}: {what}: serial {made.serial}, {len(made.files)} files, {digest}")
    if removed:
        click.echo(f"taken away, as they were of another manifest: {', '.join(removed)}")
    click.echo(f"each who signs: ssh-keygen -Y sign -n {NAMESPACE} -f KEY < {MANIFEST} > {MANIFEST}.NAME.sig")
    return FINE
