"""Who may ask over HTTP: tokens, of which the file holds hashes only.

One token a line, `NAME ROLE sha256:HEX`; `#` begins a comment. `status` may ask how enforcement is and about one
address; `detail` also what policies say in their own words, in which lists of addresses may stand.

The hash is one round of SHA-256, without salt: a token is 256 bits from the kernel's random generator, so there is no
dictionary to try and no second token that is the same. Slow hashes (scrypt, Argon2) are for what people make up, and
would hand everybody who can connect a way to keep the processor busy.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gatewrit.policy.faults import cap, fault, one_of
from gatewrit.policy.terms import Fault, Place

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.policy.faults import Code

#: So that one that leaks is found by who looks for such (secret scanners), and told apart from other software's.
PREFIX = "gwt_"
#: Every token is compared with each request, so there are as many as a large NOC needs, and no more.
MOST = 1000
_LARGEST = 1 << 18
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}", re.ASCII)
_HASH = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_WORD = re.compile(r"[^ \t]+")
#: Read by others, or written by group or others.
_OTHERS = stat.S_IRWXO | stat.S_IWGRP


class Role(StrEnum):
    """What a token allows."""

    STATUS = "status"
    DETAIL = "detail"


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the file: whose it is, what it allows, and the SHA-256 of the secret."""

    name: str
    role: Role
    digest: bytes


class TokensError(Exception):
    """The tokens can't be used; prints as one fault a line."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def make(name: str, role: Role) -> tuple[str, str]:
    """Make a token: the secret, to be given away once, and the line that lets it in. Raises ValueError for a name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} isn't a name of small letters, digits and hyphens, 48 at most")
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, f"{name} {role} sha256:{_digest(secret).hex()}"


def find(tokens: tuple[Token, ...], secret: str) -> Token | None:
    """Return the token of this secret. All are compared, each in constant time: how long it takes tells nothing."""
    digest = _digest(secret)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def read(path: Path) -> bytes | None:
    """Return what is in the file, None if there is none; raises TokensError, also where others can read or write it."""
    # O_NONBLOCK so that a pipe nobody writes to can't hold us.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError:
        how = f"chgrp gatewrit {path} && chmod 640 {path}"
        raise _one(path, "unreadable", f"the daemon's user (uid {os.geteuid()}) may not read it: {how}") from None
    except OSError as error:
        raise _one(path, "unreadable", os.strerror(error.errno or 0)) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _one(path, "not_regular", "this isn't a file")
        if status.st_mode & _OTHERS:
            raise _one(path, "unreadable", f"others can read it, or change it; it isn't used until: chmod 600 {path}")
        if status.st_uid not in (0, os.geteuid()):
            raise _one(path, "unreadable", f"user {status.st_uid} owns it and could let anybody in: chown root {path}")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(_LARGEST + 1)
    finally:
        os.close(fd)
    if len(data) > _LARGEST:
        raise _one(path, "too_large", f"a file of tokens has at most {_LARGEST} bytes")
    return data


def parse(data: bytes, file: str) -> tuple[Token, ...]:
    """Read the lines of a file; raises TokensError with all that is wrong. No message repeats what may be a secret."""
    tokens: dict[str, Token] = {}
    faults: list[Fault] = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.decode("utf-8", "replace").partition("#")[0]
        words = [(match[0], Place(file, number, match.start() + 1)) for match in _WORD.finditer(line.rstrip())]
        if not words:
            continue
        wrong = _wrong(words, Place(file, number, 1))
        if wrong is None and words[0][0] in tokens:
            wrong = fault(words[0][1], "duplicate_key", f"{words[0][0]} is here twice; give each token its own name")
        if wrong is not None:
            faults.append(wrong)
            continue
        (name, _), (role, _), (digest, _) = words
        tokens[name] = Token(name, Role(role), bytes.fromhex(digest.removeprefix("sha256:")))
    if len(tokens) > MOST:
        faults.append(fault(Place(file, 1, 1), "too_large", f"there are {len(tokens)} tokens; at most {MOST} can be"))
    if faults:
        raise TokensError(cap(faults))
    return tuple(tokens.values())


def _wrong(words: list[tuple[str, Place]], start: Place) -> Fault | None:
    if len(words) != 3:
        return fault(start, "bad_value", "a token is NAME ROLE sha256:HASH; `gatewrit new token` makes one")
    (name, name_place), (role, role_place), (digest, digest_place) = words
    if not _NAME.fullmatch(name):
        return fault(name_place, "bad_value", "a name is of small letters, digits and hyphens, 48 at most")
    if role not in set(Role):
        return fault(role_place, "bad_value", f"a role is {one_of(list(Role))}")
    if digest.startswith(PREFIX):
        message = "this is a token itself; here stands its hash. It is known now: make another (gatewrit new token)"
        return fault(digest_place, "bad_value", message)
    if not _HASH.fullmatch(digest):
        return fault(digest_place, "bad_value", "a hash is sha256: and 64 of 0-9a-f; `gatewrit new token` makes one")
    return None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _one(path: Path, code: Code, message: str) -> TokensError:
    return TokensError((fault(Place(str(path), 1, 1), code, message),))
