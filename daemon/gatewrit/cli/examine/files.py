"""Settings, policies, signatures, state and journal: as they lie on the disk, damaged or not."""

from __future__ import annotations

import os
import pwd
import stat
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.api.documents import instant
from gatewrit.cli import credentials
from gatewrit.cli.examine.finding import Finding, guarded, problem, unseen
from gatewrit.cli.seal import sealed
from gatewrit.cli.service import rails
from gatewrit.compile.rails import Judge
from gatewrit.engine import byhand, memory, sealing, trust
from gatewrit.engine.beside import few
from gatewrit.engine.generations import Generations
from gatewrit.engine.journal import database
from gatewrit.engine.journal.database import DamagedError, JournalError, NoJournalError, path_in
from gatewrit.engine.status import ACTIONS
from gatewrit.engine.store import Store
from gatewrit.policy.load import judged, read_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gatewrit.cli.examine.finding import Severity, Subject
    from gatewrit.settings import Settings

_MB = 1_000_000
#: Below this a restart may not find room for what it must write down.
_LEAST_FREE = 64 * _MB
#: So many rows at the journal's end are proved; `log verify` proves all.
_ROWS = 1000


def examine(subject: Subject) -> Iterator[Finding]:
    """Examine the files; nothing of them is known where the settings can't be used."""
    if not subject.readable:
        return
    settings = subject.settings
    yield from _protected(settings)
    yield from _directories(settings)
    yield from guarded("the policies", _policies(settings))
    yield from guarded("the state", _state(settings.state))
    yield from guarded("the journal", _journal(path_in(settings.state)))
    yield from guarded("certificate and tokens", examine_credentials(settings))


def _protected(settings: Settings) -> Iterator[Finding]:
    if settings.protected:
        yield Finding("ok", "protected", f"entries protected from every order: {len(settings.protected)}")
        return
    yield Finding(
        "warning",
        "protected_empty",
        "nothing is protected: an order with a wrong address may cut off emergency calls, DNS, time or your own way in",
        "List them in `protected` in the settings (gatewrit init asks for them), and restart the daemon",
    )


# -- directories ------------------------------------------------------------------------------------------------------


def _directories(settings: Settings) -> Iterator[Finding]:
    later = "the daemon makes it when it starts, or systemd does"
    missing = "nothing new can be loaded; what is in force stays"
    yield from guarded("the state directory", _directory(settings.state, "state", settings, later))
    yield from guarded("the runtime directory", _directory(settings.runtime, "runtime", settings, later))
    yield from guarded("the policies directory", _directory(settings.policies, "policies", settings, missing))
    yield from guarded("the room for the state", _space(settings))


def _directory(path: Path, key: str, settings: Settings, if_missing: str) -> Iterator[Finding]:
    """Examine one: that it is there, and who may change what is in it; raises `OSError`."""
    shown = f"{path} (`{key}`)"
    try:
        status = path.stat()
    except FileNotFoundError:
        lacking: tuple[Severity, str | None] = "note", None
        if key == "policies":
            lacking = "error", f"mkdir -m 755 {path}, or correct `{key}` in the settings"
        yield Finding(lacking[0], "directory_missing", f"there is no {shown}: {if_missing}", lacking[1])
        return
    if not stat.S_ISDIR(status.st_mode):
        message = f"{shown} isn't a directory: nothing can be read from it or written there"
        yield Finding("error", "no_directory", message, f"Move it away, or correct `{key}` in the settings")
        return
    # A group of people may share the policies; the daemon's own files nobody else writes.
    others = stat.S_IWOTH if key == "policies" else stat.S_IWOTH | stat.S_IWGRP
    if status.st_mode & others:
        yield Finding(
            "error",
            "writable_by_others",
            f"others can write to {shown}, mode {stat.S_IMODE(status.st_mode):o}: they can change what is blocked",
            f"chmod {'o-w' if key == 'policies' else 'go-w'} {path}, and see who has written there",
        )
    elif status.st_uid not in _owners(settings):
        yield Finding(
            "warning",
            "foreign_owner",
            f"{shown} belongs to user {status.st_uid}, who is neither root nor the one whose the state is: that user "
            "can change what is blocked",
            f"chown root {path} if that isn't meant",
        )
    elif not os.access(path, os.R_OK | os.X_OK):
        yield Finding("note", "not_looked", f"{shown} can't be read by this user", "Run gatewrit doctor as root")
    else:
        yield Finding("ok", "directory", f"{shown} is there, and nobody else can write to it")


def _owners(settings: Settings) -> set[int]:
    """Give whose the directories may be: root's, and the daemon's, whose the state is."""
    try:
        return {0, settings.state.stat().st_uid}
    except FileNotFoundError:
        return {0, os.geteuid()}


def _space(settings: Settings) -> Iterator[Finding]:
    try:
        disk = os.statvfs(settings.state)
    except FileNotFoundError:
        return
    free = disk.f_bavail * disk.f_frsize
    journal = path_in(settings.state)
    grows = max(0, settings.journal.max_mb * _MB - (journal.stat().st_size if journal.exists() else 0))
    if free < _LEAST_FREE or (disk.f_files and not disk.f_favail):
        yield Finding(
            "error",
            "disk_full",
            f"{settings.state} has {free // _MB} MB and {disk.f_favail} files left: orders are enforced all the same, "
            "but a restart may not know the last good policies, and the journal waits in memory",
            f"Free room on the file system of {settings.state}",
        )
    elif free < grows:
        yield Finding(
            "warning",
            "disk_small",
            f"{settings.state} has {free // _MB} MB left, and the journal may grow by {grows // _MB} MB "
            "(`journal.max_mb`): once it is full, a restart may not know the last good policies",
            "Make the file system larger, or `journal.max_mb` in the settings smaller",
        )
    else:
        yield Finding("ok", "disk", f"{settings.state} has {free // _MB} MB left, more than the journal may grow by")


# -- policies ---------------------------------------------------------------------------------------------------------


def _policies(settings: Settings) -> Iterator[Finding]:
    reading = read_directory(settings.policies)
    if reading.missing:
        # Told as a directory.
        return
    policies, faults = judged(reading, Judge(rails(settings)).faults)
    errors = [each for each in faults if each.severity == "error"]
    if errors:
        yield Finding(
            "error",
            "policies_faulty",
            f"{len(errors)} faults in the policies, the first at {errors[0]}: what is faulty stays as it last was "
            "good, or isn't enforced if it never was",
            "gatewrit check tells them all",
        )
    else:
        yield Finding("ok", "policies", f"the policies have no fault: {len(policies)}")
    yield from _open(settings.policies)
    yield from _signatures(settings)
    secrets = [settings.tokens] if settings.tls is None else [settings.tokens, settings.tls.cert, settings.tls.key]
    yield from readable([settings.policies, *(Path(each) for each in reading.loaded), *secrets], _daemon(settings))


def _open(folder: Path) -> Iterator[Finding]:
    """Look for policies, services and lists that anybody may write; raises `OSError`."""
    services = folder / "services"
    paths = [services, *folder.iterdir(), *(services.iterdir() if services.is_dir() else ())]
    found = sorted({str(each) for each in paths if each.exists() and each.stat().st_mode & stat.S_IWOTH})
    if found:
        yield Finding(
            "error",
            "writable_by_others",
            f"others can write to {few(found)}: they can change what is blocked",
            f"chmod -R o-w {folder}, and see what was written there",
        )


def _daemon(settings: Settings) -> tuple[int, frozenset[int]]:
    """Give the user that the daemon is, whose the state is, and that user's groups; raises `OSError`."""
    try:
        status = settings.state.stat()
        entry = pwd.getpwuid(status.st_uid)
    except FileNotFoundError:
        return 0, frozenset()
    except KeyError:
        return status.st_uid, frozenset({status.st_gid})
    return entry.pw_uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))


def readable(paths: Iterable[Path], daemon: tuple[int, frozenset[int]]) -> Iterator[Finding]:
    """See whether a daemon that isn't root may read its files, as far as modes tell; raises `OSError`."""
    user, groups = daemon
    shut = []
    for path in paths if user else ():
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        # Whose it is, its group's and the others' rights: the first that fits counts.
        shift = 6 if status.st_uid == user else 3 if status.st_gid in groups else 0
        needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else 0)
        if (status.st_mode >> shift) & needed != needed:
            shut.append(str(path))
    if shut:
        yield Finding(
            "error",
            "unreadable_to_daemon",
            f"the daemon is user {user}, who may not read {few(shut)}: what stands there doesn't count, and what was "
            "good before stays",
            "chgrp gatewrit FILE && chmod g+r FILE (for a folder: g+rx), or for all of them: chmod -R a+rX",
        )


def _signatures(settings: Settings) -> Iterator[Finding]:
    required = settings.signatures.required
    if not required:
        yield Finding(
            "note",
            "signatures_off",
            "no signatures are required: whoever can write the policies directory alone decides what is blocked",
            "Have two people sign (docs/signed-policies.md): `signatures` in the settings, gatewrit manifest",
        )
        return
    against, seal = sealed(settings, settings.policies)
    errors = [each for each in against if each.severity == "error"]
    if errors:
        action = ACTIONS.get(errors[0].code, "gatewrit check tells them all")
        message = f"{errors[0].message}: the policies stay as they were last signed"
        yield Finding("error", errors[0].code, message, action)
    elif seal is not None:
        yield Finding("ok", "signed", seal)


# -- the state --------------------------------------------------------------------------------------------------------


def _state(state: Path) -> Iterator[Finding]:
    """Read back whatever a start would read back; raises `OSError`."""
    if not state.exists():
        # Told as a directory.
        return
    readers: tuple[tuple[str, Callable[[Path], object]], ...] = (
        ("what was decided by hand", byhand.load),
        ("what was enforced last", memory.load_record),
        ("the counts", memory.load_ledger),
        ("the latest instant seen", trust.load_floor),
        ("the manifest accepted last", sealing.load_accepted),
    )
    damaged = []
    for what, read in readers:
        try:
            read(state)
        except ValueError as error:
            damaged.append(f"{what} ({error})")
    damaged += Store(state).load()[1]
    damaged += Generations(state).load()
    if damaged:
        yield Finding(
            "error",
            "state_damaged",
            f"parts of the state can't be read back: {'; '.join(damaged)}. A start would do without them, and take the "
            "policy directory as it is",
            "Put every policy file in place and reload, so that the state is written anew; for what was suspended by "
            "hand, say it again",
        )
    else:
        yield Finding("ok", "state", "everything that the state holds can be read back")


def _journal(path: Path) -> Iterator[Finding]:
    """Prove the journal's end; raises `OSError`."""
    try:
        with database.open_to_read(path) as connection:
            last = database.head(connection).seq
            rows = list(database.rows(connection, "WHERE seq > ? ORDER BY seq", (last - _ROWS,)))
    except NoJournalError:
        yield Finding("note", "no_journal", f"there is no journal at {path} yet: the daemon begins one")
        return
    except DamagedError as error:
        message = f"the journal is damaged: {error}. Enforcement isn't concerned; the daemon begins a new one"
        yield Finding("error", "journal_damaged", message, ACTIONS["journal_damaged"])
        return
    except JournalError as error:
        yield unseen("the journal", error)
        return
    torn = [row.seq for row in rows if row.digest != row.expected()]
    torn += [row.seq for before, row in pairwise(rows) if (row.seq, row.previous) != (before.seq + 1, before.digest)]
    if torn:
        message = f"row {min(torn)} of the journal isn't as it was written: it is no evidence any more"
        yield Finding("error", "journal_broken", message, ACTIONS["journal_broken"])
    else:
        message = f"the journal's last {len(rows)} rows are as they were written; gatewrit log verify proves all"
        yield Finding("ok", "journal", message)


def examine_credentials(settings: Settings) -> Iterator[Finding]:
    """Examine what lets clients in over HTTP; raises `OSError`."""
    try:
        credentials.refuse_open(settings)
    except credentials.LackingError as error:
        message = f"the daemon refuses to start: {error}. Nothing is enforced anew after a stop"
        yield Finding("error", "http_open", message, "Do that, or listen on 127.0.0.1 only")
    found = credentials.read(settings)
    troubles = found.troubles(int(time.time()))
    yield from map(problem, troubles)
    if found.not_after is not None and all(each.place != found.place for each in troubles):
        yield Finding("ok", "certificate", f"the certificate for HTTP is good until {instant(found.not_after)}")
