"""The certificate for listening beyond loopback: loaded from bytes, so that who serves needs no file of its own.

Python's own choice of protocols and ciphers for servers, and TLS 1.2 at least.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import NoReturn

#: X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL.
_NOT_YET, _EXPIRED = 9, 10
#: A handshake with oneself takes three or four turns.
_TURNS = 10


class CertificateError(Exception):
    """A certificate or its key can't be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server needs, and from when until when (epoch seconds) the certificate is valid."""

    context: ssl.SSLContext
    not_before: int
    not_after: int


def load(cert: bytes, key: bytes) -> Certificate:
    """Make a server's context, and see that clients will take it; raises CertificateError, also if it has expired."""
    context = make_context(cert, key)
    return Certificate(context, *_valid(context, _leaf(cert)))


def make_context(cert: bytes, key: bytes) -> ssl.SSLContext:
    """Make a server's context of a PEM chain and its PEM key; raises CertificateError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that negotiates anew and anew would keep the processor busy within one request.
    context.options |= ssl.OP_NO_RENEGOTIATION
    _leaf(cert)
    if b"PRIVATE KEY-----" not in key:
        raise CertificateError("the key isn't a private key in PEM")
    fds: list[int] = []
    try:
        # OpenSSL reads files only, and these bytes must not lie in one that outlives us.
        fds += [_memory(cert), _memory(key)]
        context.load_cert_chain(f"/proc/self/fd/{fds[0]}", f"/proc/self/fd/{fds[1]}", password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError("the key doesn't belong to the certificate: one of the two is another's") from None
        raise CertificateError(f"the certificate or its key can't be read ({error.reason or 'no PEM'})") from None
    finally:
        for fd in fds:
            os.close(fd)
    return context


def _leaf(cert: bytes) -> str:
    head, begin, rest = cert.decode("ascii", "replace").partition("-----BEGIN CERTIFICATE-----")
    del head
    body, end, _ = rest.partition("-----END CERTIFICATE-----")
    if not begin or not end:
        raise CertificateError("the certificate isn't PEM: it has no -----BEGIN CERTIFICATE----- … END")
    return f"{begin}{body}{end}\n"


def _memory(data: bytes) -> int:
    fd = os.memfd_create("gatewrit-tls", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def _no_password() -> NoReturn:
    raise CertificateError("the key is encrypted, and there is nobody to ask for its password: store it without")


def _valid(context: ssl.SSLContext, leaf: str) -> tuple[int, int]:
    """Return from when until when the certificate is valid, as a client sees it: by a handshake with itself.

    Whatever a client would refuse shows here.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=leaf)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        asking, serving = client.wrap_bio(down, up), context.wrap_bio(up, down, server_side=True)
        for _ in range(_TURNS):
            for side in (asking, serving):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        found = asking.getpeercert()
        if not found:
            raise CertificateError("the certificate can't be used: a handshake with it doesn't end")
        begins, ends = (ssl.cert_time_to_seconds(str(found[each])) for each in ("notBefore", "notAfter"))
        return int(begins), int(ends)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            raise CertificateError(f"the certificate has expired, {_dates(leaf)}") from None
        if error.verify_code == _NOT_YET:
            raise CertificateError(f"the certificate isn't valid yet, {_dates(leaf)}; is the clock right?") from None
        raise CertificateError(f"clients will refuse the certificate: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise CertificateError(f"the certificate can't be used ({error.reason})") from None


def _dates(leaf: str) -> str:
    from cryptography import x509  # noqa: PLC0415 - what serves needs it only where something is wrong

    found = x509.load_pem_x509_certificate(leaf.encode())
    return f"it is from {found.not_valid_before_utc:%Y-%m-%d %H:%M} to {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
