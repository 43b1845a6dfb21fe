"""Detached signatures as `ssh-keygen -Y sign` makes them (OpenSSH's PROTOCOL.sshsig), read from untrusted bytes.

Verified here rather than by calling `ssh-keygen -Y verify`: so the daemon starts no programs and writes no temporary
files, a gateway needs no OpenSSH, and the bytes that are verified are those that are in memory. A key in a signature
is never used: it is compared, octet by octet, with the keys in the settings, and one of these then verifies.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewrit.signing.keys import SignatureError, fingerprint
from gatewrit.signing.wire import Reader, WireError, string

if TYPE_CHECKING:
    from gatewrit.signing.keys import PublicKey

#: What `ssh-keygen -n` is to be told, so that no signature made for mail or git counts here.
NAMESPACE = "gatewrit"
#: The longest signature file: one by RSA of 16,384 bits takes 6 KB.
MAX_BYTES = 16_384
_MAGIC = b"SSHSIG"
_VERSION = 1
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signature file claims: `key` is the blob of the signer's key, `raw` its signature."""

    key: bytes
    namespace: bytes
    reserved: bytes
    hash: str
    raw: bytes

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` calls the key that it claims to be by."""
        return fingerprint(self.key)

    def over(self, message: bytes) -> bytes:
        """Give what must have been signed for it to be over `message`."""
        digest = _HASHES[self.hash](message).digest()
        return _MAGIC + b"".join(map(string, (self.namespace, self.reserved, self.hash.encode("ascii"), digest)))


def read_signature(armored: bytes) -> Signature:
    """Read a signature file; raises `SignatureError`."""
    lines = [line.rstrip() for line in armored.rstrip().split(b"\n")]
    if len(armored) > MAX_BYTES or len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise SignatureError("this isn't a signature file; make it with: ssh-keygen -Y sign")
    try:
        reader = Reader(base64.b64decode(b"".join(lines[1:-1]), validate=True))
        if reader.take(len(_MAGIC)) != _MAGIC or reader.uint32() != _VERSION:
            raise SignatureError("this isn't a signature of version 1 (PROTOCOL.sshsig)")
        key, namespace, reserved = reader.string(), reader.string(), reader.string()
        algorithm, raw = reader.name(), reader.string()
        reader.end()
    except (WireError, binascii.Error) as error:
        raise SignatureError(f"the signature file is damaged: {error}") from None
    if algorithm not in _HASHES:
        raise SignatureError(f"its hash is {algorithm}, where sha512 or sha256 must be")
    return Signature(key, namespace, reserved, algorithm, raw)


def check(signature: Signature, key: PublicKey, message: bytes) -> None:
    """See to it that a signature is by `key`, for gatewrit, over `message`; raises `SignatureError`."""
    if signature.key != key.blob:
        raise SignatureError("it is by another key")
    if signature.namespace != NAMESPACE.encode("ascii"):
        said = signature.namespace.decode("utf-8", "replace")
        raise SignatureError(f"it was made for {said[:40]!r}; sign with: ssh-keygen -Y sign -n {NAMESPACE}")
    key.check(signature.raw, signature.over(message))
