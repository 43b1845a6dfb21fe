"""People with keys: OpenSSH signatures made in the test, as `ssh-keygen -Y sign` makes them (PROTOCOL.sshsig)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import sha256, sha512
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APPLICATION = b"ssh:"
HASHES = {"nistp256": hashes.SHA256(), "nistp384": hashes.SHA384(), "nistp521": hashes.SHA512()}


def string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def number(value: int) -> bytes:
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


@dataclass
class Signer:
    """Somebody with a key; `raw` makes the signature blob over what it is given."""

    name: str
    kind: str
    blob: bytes
    raw: Callable[[bytes], bytes]
    private: Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def line(self) -> str:
        """The line of the `.pub` file."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()} {self.name}"

    def sign(self, message: bytes, namespace: bytes = b"gatewrit", reserved: bytes = b"", hash_: str = "sha512") -> str:
        """Sign as `ssh-keygen -Y sign -n NAMESPACE` does; gives the signature file."""
        return armored(self.claim(message, namespace, reserved, hash_))

    def claim(
        self, message: bytes, namespace: bytes = b"gatewrit", reserved: bytes = b"", hash_: str = "sha512"
    ) -> bytes:
        """Give the blob of the signature file."""
        digest = {"sha256": sha256, "sha512": sha512}[hash_](message).digest()
        over = b"SSHSIG" + string(namespace) + string(reserved) + string(hash_.encode()) + string(digest)
        parts = (self.blob, namespace, reserved, hash_.encode(), self.raw(over))
        return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(string, parts))

    def keep(self, folder: Path) -> Path:
        """Put the private key where `ssh-keygen` finds it, with its `.pub`."""
        path = folder / self.name
        path.touch(mode=0o600)
        path.write_bytes(self.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        path.with_suffix(".pub").write_text(self.line + "\n")
        return path


def armored(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def ed25519(name: str = "alice", *, seed: bytes | None = None) -> Signer:
    key = Ed25519PrivateKey.generate() if seed is None else Ed25519PrivateKey.from_private_bytes(seed)
    blob = string(b"ssh-ed25519") + string(key.public_key().public_bytes_raw())
    return Signer(name, "ssh-ed25519", blob, lambda over: string(b"ssh-ed25519") + string(key.sign(over)), key)


def ecdsa(name: str = "alice", curve: str = "nistp256") -> Signer:
    curves = {"nistp256": ec.SECP256R1(), "nistp384": ec.SECP384R1(), "nistp521": ec.SECP521R1()}
    key = ec.generate_private_key(curves[curve])
    kind = f"ecdsa-sha2-{curve}"

    def raw(over: bytes) -> bytes:
        return string(kind.encode()) + string(_pair(key.sign(over, ec.ECDSA(HASHES[curve]))))

    return Signer(name, kind, string(kind.encode()) + string(curve.encode()) + string(_point(key)), raw, key)


def rsa_(name: str = "alice", bits: int = 2048, algorithm: str = "rsa-sha2-512") -> Signer:
    key = rsa.generate_private_key(65537, bits)
    public = key.public_key().public_numbers()
    # OpenSSH's old `ssh-rsa` is SHA-1, which must be refused.
    kinds = {"rsa-sha2-512": hashes.SHA512(), "rsa-sha2-256": hashes.SHA256(), "ssh-rsa": hashes.SHA1()}  # noqa: S303
    kind: hashes.HashAlgorithm = kinds[algorithm]

    def raw(over: bytes) -> bytes:
        return string(algorithm.encode()) + string(key.sign(over, padding.PKCS1v15(), kind))

    return Signer(name, "ssh-rsa", string(b"ssh-rsa") + number(public.e) + number(public.n), raw, key)


def security_key(
    name: str = "alice", *, curve: bool = False, flags: int = 1, signed_flags: int | None = None
) -> Signer:
    """Somebody with a FIDO key; `flags` are those in the signature, `signed_flags` those that it is over."""
    kind = "sk-ecdsa-sha2-nistp256@openssh.com" if curve else "sk-ssh-ed25519@openssh.com"
    counter = (7).to_bytes(4, "big")
    inner = bytes([flags if signed_flags is None else signed_flags])
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    if curve:
        key = of_curve = ec.generate_private_key(ec.SECP256R1())
        public = string(b"nistp256") + string(_point(of_curve))

        def made(over: bytes) -> bytes:
            return _pair(of_curve.sign(over, ec.ECDSA(hashes.SHA256())))
    else:
        key = edwards = Ed25519PrivateKey.generate()
        public = string(edwards.public_key().public_bytes_raw())
        made = edwards.sign

    def raw(over: bytes) -> bytes:
        signed = sha256(APPLICATION).digest() + inner + counter + sha256(over).digest()
        return string(kind.encode()) + string(made(signed)) + bytes([flags]) + counter

    return Signer(name, kind, string(kind.encode()) + public + string(APPLICATION), raw, key)


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _pair(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return number(r) + number(s)
