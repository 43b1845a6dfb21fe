"""What lets clients in over HTTP, as it lies in the operator's files: read here, where they may be read, and passed on.

What is wrong with them is a warning: nothing is blocked less for it. At a reload what was good stays; at a start there
is nothing to stay, so nobody gets in from elsewhere, and over loopback only where there is no file of tokens at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gatewrit.api import certificate, tokens
from gatewrit.api.certificate import CertificateError
from gatewrit.api.codec import Material, pack
from gatewrit.api.documents import instant
from gatewrit.api.tokens import TokensError
from gatewrit.engine.status import Trouble
from gatewrit.policy.files import RefusedFile, read_one
from gatewrit.settings import beyond_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.settings import Settings

#: How long before its end a certificate is complained about, in seconds: time to have one issued. If it is for less
#: than three months, and so renewed by a program: in the last third of its time.
_WARN_BEFORE = 30 * 86400
_LARGEST = 1 << 20


class LackingError(Exception):
    """It is to listen beyond loopback, and there is no certificate or no token; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is good of the files, what is wrong with them, and the certificate's time (epoch seconds)."""

    material: Material
    wrong: tuple[Trouble, ...] = ()
    not_before: int = 0
    not_after: int | None = None
    place: str | None = None

    def troubles(self, now: int) -> tuple[Trouble, ...]:
        """Give what a person should know about them now."""
        if self.not_after is None:
            return self.wrong
        if now < self.not_after - min(_WARN_BEFORE, (self.not_after - self.not_before) // 3):
            return self.wrong
        when = instant(self.not_after)
        meaning = "no page, status or metrics for them; orders are enforced all the same"
        if now < self.not_after:
            text = f"the certificate for HTTP expires at {when}; clients from elsewhere will refuse it then: {meaning}"
        else:
            text = f"the certificate for HTTP expired at {when}; clients from elsewhere refuse it: {meaning}"
        return (*self.wrong, Trouble("certificate_expires", "warning", text, place=self.place))


def read(settings: Settings, before: Credentials | None = None) -> Credentials:
    """Read the files anew; what can't be used is as it was `before`, with a problem that says so."""
    found = _read_tokens(settings.tokens, before)
    return found if settings.tls is None else _with_certificate(settings.tls.cert, settings.tls.key, found, before)


def refuse_open(settings: Settings) -> None:
    """Raise LackingError if it is to listen beyond loopback and there is no certificate or no token at all.

    Files that are there and faulty are another matter: the orders are enforced, and nobody gets in.
    """
    beyond = [each for each in settings.listen if beyond_loopback(each)]
    if not beyond or settings.tls is None:
        return
    what = f"listening on {beyond[0]} needs TLS and a token"
    for path in (settings.tls.cert, settings.tls.key):
        if not os.path.lexists(path):
            raise LackingError(f"{what}, but there is no {path}")
    try:
        data = tokens.read(settings.tokens)
        if not tokens.parse(data or b"", str(settings.tokens)):
            how = f"make one: gatewrit new token NAME --role status >> {settings.tokens}"
            raise LackingError(f"{what}, but there is none in {settings.tokens}; {how}")
    except TokensError:
        return


def _read_tokens(path: Path, before: Credentials | None) -> Credentials:
    try:
        data = tokens.read(path)
        tokens.parse(data or b"", str(path))
    except TokensError as error:
        first, more = error.faults[0], len(error.faults) - 1
        # No token fits an empty file: where there are to be tokens, nobody gets in without one.
        kept = before.material.tokens if before is not None else None
        effect = "the tokens that were good stay" if kept else "nobody gets in over HTTP but through a Unix socket"
        text = f"{first.message}{f' (and {more} more faults)' if more else ''}; {effect}"
        trouble = Trouble("tokens_unusable", "warning", text, place=str(first.place))
        return Credentials(Material(tokens=kept or pack(b"")), (trouble,))
    return Credentials(Material(tokens=pack(data)))


def _with_certificate(cert: Path, key: Path, found: Credentials, before: Credentials | None) -> Credentials:
    try:
        pem, secret = _read(cert), _read(key)
        loaded = certificate.load(pem, secret)
    except CertificateError as error:
        kept = before if before is not None and before.material.cert is not None else None
        effect = "the one that was good stays" if kept else "nothing is answered beyond loopback"
        text = f"{error}; {effect}, and orders are enforced all the same"
        trouble = Trouble("certificate_unusable", "warning", text, place=str(cert))
        material = found.material if kept is None else replace(kept.material, tokens=found.material.tokens)
        begin, end = (0, None) if kept is None else (kept.not_before, kept.not_after)
        return Credentials(material, (*found.wrong, trouble), begin, end, str(cert))
    material = replace(found.material, cert=pack(pem), key=pack(secret))
    return Credentials(material, found.wrong, loaded.not_before, loaded.not_after, str(cert))


def _read(path: Path) -> bytes:
    try:
        return read_one(path, _LARGEST, trusted=True)
    except RefusedFile as refused:
        raise CertificateError(f"{path} can't be used: {refused.message}") from None
