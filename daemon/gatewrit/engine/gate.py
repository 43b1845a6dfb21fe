"""What the daemon lets in of the policy directory: where signatures are required, only what enough people signed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine import sealing
from gatewrit.engine.sealing import NotSealedError, vouch
from gatewrit.engine.status import Trouble
from gatewrit.policy.load import read_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatewrit.engine.chronicle import Chronicle
    from gatewrit.engine.scribe import Scribe
    from gatewrit.engine.sealing import Seal, Signing
    from gatewrit.engine.snapshot import Accepted
    from gatewrit.policy.files import Folder
    from gatewrit.policy.lists import ListFile, Shelf
    from gatewrit.policy.load import Reading
    from gatewrit.policy.terms import Fault

log = structlog.get_logger()


def read_signed(
    path: Path,
    signing: Signing,
    last: Accepted | None,
    before: Reading | None = None,
    shelf: Shelf | None = None,
) -> tuple[Reading, Seal | None]:
    """Read a directory as it was signed; raises `NotSealedError`. The seal is None where none is required."""
    found: list[Seal] = []

    def seal(folder: Folder, lists: Mapping[str, ListFile]) -> Folder:
        sealed, seal = vouch(folder, signing, last, lists)
        found.append(seal)
        return sealed

    reading = read_directory(path, before, shelf, seal if signing.required else None)
    return reading, found[0] if found else None


class Gate:
    """Keeps the highest manifest that was accepted. `faults` says why the directory was refused last; empty if not."""

    def __init__(self, signing: Signing, scribe: Scribe, chronicle: Chronicle) -> None:
        self._signing = signing
        self._scribe = scribe
        self._chronicle = chronicle
        self.accepted: Accepted | None = None
        self._saved: Accepted | None = None
        self._ignored: tuple[Fault, ...] = ()
        self.faults: tuple[Fault, ...] = ()

    @property
    def troubles(self) -> list[Trouble]:
        """Give what people must know of all this."""
        meaning = "nothing of the directory was taken, and what was in force stays"
        return [
            Trouble(
                each.code,
                each.severity,
                f"{each.message}; {meaning}" if each.severity == "error" else each.message,
                place=str(each.place),
            )
            for each in (*self.faults, *self._ignored)
        ]

    async def read(self, path: Path, before: Reading | None, shelf: Shelf, now: int) -> Reading | None:
        """Read the directory; None if it isn't as enough people signed it. What is accepted is written down first."""
        try:
            await asyncio.to_thread(self._remember)
            reading, seal = await asyncio.to_thread(read_signed, path, self._signing, self.accepted, before, shelf)
        except NotSealedError as refused:
            self.faults, self._ignored = refused.faults, ()
            for each in self.faults:
                event = log.error if each.severity == "error" else log.warning
                event("policies.refused", place=str(each.place), code=each.code, message=each.message)
            return None
        self.faults, self._ignored = (), seal.ignored if seal else ()
        if seal is not None:
            await self._accept(seal, now)
        return reading

    def _remember(self) -> None:
        """Read back what was accepted before this life; raises `NotSealedError` for as long as that can't be done."""
        if self._signing.required and self.accepted is None:
            try:
                self.accepted = self._saved = sealing.load_accepted(self._scribe.state)
            except (OSError, ValueError) as error:
                raise sealing.unknown(self._scribe.state, error) from None

    async def _accept(self, seal: Seal, now: int) -> None:
        if self.accepted is None or self.accepted.digest != seal.digest:
            self.accepted = accepted = seal.accepted(now)
            signers = [{"fingerprint": each.fingerprint, "name": each.name} for each in seal.signers]
            said = {**sealing.document(accepted), "signers": signers, "files": len(seal.manifest.files)}
            self._chronicle.note("manifest", None, said)
            who = [str(each) for each in seal.signers]
            log.info("manifest.accepted", serial=accepted.serial, digest=accepted.digest, signers=who)
        last = self.accepted
        if self._saved != last and await self._scribe.write(
            "manifest that was accepted", lambda: sealing.save_accepted(self._scribe.state, last)
        ):
            self._saved = last
