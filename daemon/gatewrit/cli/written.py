"""Files that a user names to have something written to: whole or not at all, and never through somebody's link."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from gatewrit.cli.app import Quit
from gatewrit.engine import durable

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place by one rename; a file that is there keeps its mode and owner, a new one gets `mode`.

    Anything but a regular file there is refused, a link too: it would be replaced, not written through. Raises `Quit`.
    """
    try:
        before = path.lstat() if os.path.lexists(path) else None
        if before is not None and not stat.S_ISREG(before.st_mode):
            raise Quit(f"{path}: this isn't a regular file; nothing was written. Name the file itself, or leave it out")
        # Its name can't be guessed and it is made anew, so that nobody else has it open.
        handle, draft = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                if before is not None:
                    os.fchown(handle, before.st_uid, before.st_gid)
                os.fchmod(handle, mode if before is None else stat.S_IMODE(before.st_mode))
                file.write(content)
                file.flush()
                os.fsync(handle)
            path.parent.joinpath(draft).replace(path)
        except BaseException:
            with suppress(OSError):
                path.parent.joinpath(draft).unlink()
            raise
        durable.sync_folder(path.parent)
    except OSError as error:
        raise Quit(f"{path}: {error.strerror or error}; nothing was written") from None
