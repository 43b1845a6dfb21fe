"""The command line's side of the control socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from gatewrit.api.control import socket_path

if TYPE_CHECKING:
    from pathlib import Path

#: The longest answer, in bytes: every policy of a large gateway.
_LARGEST_ANSWER = 256 * 2**20
_CONNECT_SECONDS = 10.0
#: What it means if nobody is there, and what to do.
_TO_DO = (
    "What was in force stays so in the kernel. Why it ended: journalctl -u gatewrit; to start it: systemctl start "
    "gatewrit"
)
_HANGS = "What is in force stays so in the kernel. See: journalctl -u gatewrit; then: systemctl restart gatewrit"


class ControlError(Exception):
    """Asking the daemon failed; the message is the sentence to show."""


class NoDaemonError(ControlError):
    """No daemon answers at that runtime directory."""


class NotAllowedError(ControlError):
    """The caller may not control the daemon."""


class LostError(ControlError):
    """The daemon ended, or stopped answering, before it gave the outcome, which is therefore unknown."""


class RefusedError(ControlError):
    """The daemon refuses the request, with a code for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def call(runtime: Path, verb: str, /, *, within: float | None = None, **arguments: object) -> dict[str, Any]:
    """Ask the daemon to do `verb` and return its answer; what is None in `arguments` isn't sent.

    Without `within` the outcome may take its time, as a reload of a million prefixes does: a daemon that dies
    meanwhile is noticed at once, because the kernel closes its end.
    """
    path = socket_path(runtime)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path, limit=_LARGEST_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NoDaemonError(f"no daemon is running here: nobody answers at {path}. {_TO_DO}") from None
    except PermissionError:
        raise NotAllowedError(
            f"not allowed to open {path}: root, the daemon's own user and the members of the control group may"
        ) from None
    except TimeoutError:
        raise LostError(f"the daemon at {path} doesn't take requests; it may hang. {_HANGS}") from None
    except OSError as error:
        raise NoDaemonError(f"no daemon can be reached at {path}: {error.strerror or error}. {_TO_DO}") from None
    given = {key: value for key, value in arguments.items() if value is not None}
    try:
        writer.write(json.dumps({"verb": verb, **given}).encode() + b"\n")
        async with asyncio.timeout(within):
            line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        raise LostError(
            f"the daemon ended before it answered {verb}; what came of it, `gatewrit status` says"
        ) from None
    except TimeoutError:
        raise LostError(f"the daemon didn't answer {verb} within {within:g} s; it may hang. {_HANGS}") from None
    except asyncio.LimitOverrunError:
        raise LostError(f"the daemon's answer to {verb} has more than {_LARGEST_ANSWER} bytes") from None
    finally:
        writer.close()
    return _read(line)


def _read(line: bytes) -> dict[str, Any]:
    try:
        response = json.loads(line)
        if response["ok"] is True:
            answer: dict[str, Any] = response["answer"]
            return answer
        code, message = str(response["code"]), str(response["message"])
    except (ValueError, TypeError, KeyError):
        raise LostError("what answers at the control socket isn't a gatewrit of this version") from None
    if code == "not_allowed":
        raise NotAllowedError(message)
    raise RefusedError(code, message)
