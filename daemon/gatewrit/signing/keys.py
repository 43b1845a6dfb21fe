"""OpenSSH public keys of those who may sign, and what a signature by each kind of key must be.

Formats: RFC 8709 (Ed25519), RFC 5656 (ECDSA), RFC 4253 and RFC 8332 (RSA), OpenSSH's PROTOCOL.u2f (security keys,
`sk-…`). The mathematics is `cryptography`'s.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gatewrit.signing.wire import Reader, WireError

#: The longest line that a key is read from: RSA of 16,384 bits takes 2,800 characters.
MAX_LINE = 4096
_RSA_BITS = (2048, 16384)
#: PROTOCOL.u2f: somebody touched the security key when it signed.
_TOUCHED = 0x01
_CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
_KNOWN = "ssh-ed25519, ecdsa-sha2-nistp256, -nistp384, -nistp521, ssh-rsa, and sk-… keys of both kinds"

#: Judges a signature (its algorithm, the rest of its blob, what it is over); raises `SignatureError`.
Judge: TypeAlias = Callable[[str, Reader, bytes], None]


class KeyRefusedError(ValueError):
    """A line that isn't the public key of somebody who may sign, and why."""


class SignatureError(ValueError):
    """A signature that doesn't count, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """Somebody who may sign: the key as OpenSSH writes it, and the name behind it (its comment; may be empty)."""

    kind: str
    blob: bytes
    name: str
    judge: Judge

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` calls the key."""
        return fingerprint(self.blob)

    @property
    def called(self) -> str:
        """What messages call whoever has it, in few words."""
        return self.name[:60] or self.fingerprint

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})" if self.name else self.fingerprint

    def check(self, signature: bytes, message: bytes) -> None:
        """See to it that a signature (RFC 4253, section 6.6) is this key's over `message`; raises `SignatureError`."""
        try:
            reader = Reader(signature)
            self.judge(reader.name(), reader, message)
        except WireError as error:
            raise SignatureError(f"the signature is damaged: {error}") from None
        except InvalidSignature:
            raise SignatureError("it was made over something else") from None


def fingerprint(blob: bytes) -> str:
    """Give what `ssh-keygen -l` calls a key, whatever its blob holds."""
    return "SHA256:" + base64.b64encode(sha256(blob).digest()).decode("ascii").rstrip("=")


def read_key(line: str) -> PublicKey:
    """Read a line of a `.pub` file: kind, key in base64, and who that is; raises `KeyRefusedError`."""
    kind, _, rest = line.strip().partition(" ")
    encoded, _, name = rest.strip().partition(" ")
    if len(line) > MAX_LINE or not line.isprintable():
        raise KeyRefusedError("this isn't one line with a public key, as in a .pub file")
    if "-cert-v0" in kind:
        raise KeyRefusedError("this is a certificate, which can't sign here; name the key itself, from its .pub file")
    if not encoded:
        raise KeyRefusedError('this isn\'t a public key; write it as in a .pub file: "ssh-ed25519 AAAA… alice@noc"')
    make = _MAKERS.get(kind)
    if make is None:
        raise KeyRefusedError(f"{kind[:60]} isn't a kind of key that can sign here; known are {_KNOWN}")
    try:
        blob = base64.b64decode(encoded, validate=True)
        reader = Reader(blob)
        inner = reader.name()
        if inner != kind:
            raise KeyRefusedError(f"the line says {kind}, but its key is {inner}")
        judge = make(reader)
        reader.end()
    except binascii.Error:
        raise KeyRefusedError("the key isn't base64; copy the whole line of the .pub file") from None
    except WireError as error:
        raise KeyRefusedError(f"the key is damaged ({error}); copy the whole line of the .pub file") from None
    return PublicKey(kind, blob, name.strip(), judge)


# -- one kind each: reads what follows the kind in a key's blob ------------------------------------------------------


def _ed25519(reader: Reader) -> Judge:
    return _signed_by(_ed25519_key(reader))


def _signed_by(key: Ed25519PublicKey) -> Judge:
    def judge(algorithm: str, signature: Reader, message: bytes) -> None:
        _only("ssh-ed25519", algorithm)
        raw = signature.string()
        signature.end()
        key.verify(raw, message)

    return judge


def _ecdsa(curve: str, reader: Reader) -> Judge:
    key = _point(curve, reader)

    def judge(algorithm: str, signature: Reader, message: bytes) -> None:
        _only(f"ecdsa-sha2-{curve}", algorithm)
        pair = Reader(signature.string())
        signature.end()
        key.verify(_pair(pair), message, ec.ECDSA(_CURVES[curve][1]))

    return judge


def _rsa(reader: Reader) -> Judge:
    exponent, modulus = reader.number(), reader.number()
    least, most = _RSA_BITS
    if not least <= modulus.bit_length() <= most:
        raise KeyRefusedError(f"an RSA key of {modulus.bit_length()} bits; {least} to {most} are allowed")
    try:
        key: RSAPublicKey = RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise KeyRefusedError(f"no RSA key: {error}") from None

    def judge(algorithm: str, signature: Reader, message: bytes) -> None:
        if algorithm not in _RSA_HASHES:
            raise SignatureError(f"RSA signatures are rsa-sha2-512 or rsa-sha2-256 here, not {algorithm}")
        raw = signature.string()
        signature.end()
        size = (modulus.bit_length() + 7) // 8
        if len(raw) > size:
            raise SignatureError("the signature is longer than its key")
        # Leading zeros may have been left out (OpenSSH's ssh-rsa.c puts them back, too).
        key.verify(raw.rjust(size, b"\0"), message, padding.PKCS1v15(), _RSA_HASHES[algorithm])

    return judge


def _sk_ed25519(reader: Reader) -> Judge:
    key, application = _ed25519_key(reader), _application(reader)

    def judge(algorithm: str, signature: Reader, message: bytes) -> None:
        _only("sk-ssh-ed25519@openssh.com", algorithm)
        raw = signature.string()
        key.verify(raw, _touched(signature, application, message))

    return judge


def _sk_ecdsa(reader: Reader) -> Judge:
    key = _point("nistp256", reader)
    application = _application(reader)

    def judge(algorithm: str, signature: Reader, message: bytes) -> None:
        _only("sk-ecdsa-sha2-nistp256@openssh.com", algorithm)
        pair = Reader(signature.string())
        key.verify(_pair(pair), _touched(signature, application, message), ec.ECDSA(hashes.SHA256()))

    return judge


_MAKERS: dict[str, Callable[[Reader], Judge]] = {
    "ssh-ed25519": _ed25519,
    **{f"ecdsa-sha2-{curve}": partial(_ecdsa, curve) for curve in _CURVES},
    "ssh-rsa": _rsa,
    "sk-ssh-ed25519@openssh.com": _sk_ed25519,
    "sk-ecdsa-sha2-nistp256@openssh.com": _sk_ecdsa,
}


def _only(wanted: str, algorithm: str) -> None:
    if algorithm != wanted:
        raise SignatureError(f"its algorithm is {algorithm}, where its key makes {wanted} signatures")


def _ed25519_key(reader: Reader) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(reader.string())
    except WireError:
        raise
    except ValueError:
        raise KeyRefusedError("no Ed25519 key: it has another length than 32 bytes") from None


def _point(curve: str, reader: Reader) -> ec.EllipticCurvePublicKey:
    """Read the curve's name and a point on it, which is given in full (RFC 5656, section 3.1)."""
    said, point = reader.name(), reader.string()
    if said != curve:
        raise KeyRefusedError(f"its curve is {said}, where its kind says {curve}")
    if point[:1] != b"\x04":
        raise KeyRefusedError("its point isn't given in full")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve][0], point)
    except ValueError:
        raise KeyRefusedError(f"its point isn't one of {curve}") from None


def _pair(reader: Reader) -> bytes:
    """Read an ECDSA signature as RFC 5656, section 3.1.2, writes it, and give it in DER."""
    r, s = reader.number(), reader.number()
    reader.end()
    return encode_dss_signature(r, s)


def _application(reader: Reader) -> bytes:
    return reader.string()


def _touched(signature: Reader, application: bytes, message: bytes) -> bytes:
    """Read what a security key adds to its signature, and give what it signed (PROTOCOL.u2f, "SSH U2F signatures")."""
    flags = signature.byte()
    counter = signature.take(4)
    signature.end()
    if not flags & _TOUCHED:
        raise SignatureError("nobody touched the security key when it signed; sign again without no-touch-required")
    return sha256(application).digest() + bytes([flags]) + counter + sha256(message).digest()
