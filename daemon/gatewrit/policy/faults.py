"""The codes of all faults in input files, and the few ways to make one.

A code is stable: scripts match on it. What it stands for is said here once; the message beside it speaks of the case
at hand, says what is wrong and what would be right.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Literal, get_args

from gatewrit.policy.terms import Fault, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatewrit.policy.terms import Severity

Code = Literal[
    "address_family",
    "alias_refused",
    "bad_date",
    "bad_entry",
    "bad_instant",
    "bad_port",
    "bad_record",
    "bad_value",
    "bogon",
    "directory_missing",
    "duplicate_key",
    "duplicate_policy",
    "duplicate_service",
    "empty_file",
    "entries_mismatch",
    "from_hits_more",
    "host_bits",
    "ignored_file",
    "interface_unseen",
    "list_empty",
    "manifest_invalid",
    "manifest_old",
    "manifest_unknown",
    "many_documents",
    "many_faults",
    "memory_short",
    "missing_key",
    "must_continue_hit",
    "not_as_signed",
    "not_found",
    "not_regular",
    "not_signed",
    "not_text",
    "one_family",
    "orders_conflict",
    "outside_policies",
    "protected_hit",
    "service_broken",
    "share_too_large",
    "signature_ignored",
    "tag_refused",
    "too_deep",
    "too_large",
    "too_wide",
    "unknown_key",
    "unknown_service",
    "unreadable",
    "writable_by_others",
    "wrong_folder",
    "wrong_type",
    "yaml_syntax",
    "yaml_trap",
]

#: What each code stands for.
CODES: dict[Code, str] = {
    "address_family": "an IPv6 entry that takes in link-local, multicast or v4-mapped addresses",
    "alias_refused": "a YAML anchor, alias or merge key: each value is written where it stands",
    "bad_date": "not a date such as 2015-07-24",
    "bad_entry": "not a prefix, an address or a first-last range",
    "bad_instant": "not one exact point in time, or outside 1970 to 2261",
    "bad_port": "not one of the forms tcp/80, udp/5060-5061, sctp/any, icmp, any",
    "bad_record": "a line of a feed that isn't as its format has it, or a feed that is cut off (`gatewrit import`)",
    "bad_value": "of the right type, but not a value that is allowed here",
    "bogon": "an entry that takes in addresses that no service on the Internet has (`gatewrit import`)",
    "directory_missing": "the policies directory isn't there, or isn't a directory",
    "duplicate_key": "one key twice in one mapping",
    "duplicate_policy": "two files with one policy id",
    "duplicate_service": "two files with one service name",
    "empty_file": "a file with nothing in it",
    "entries_mismatch": "a list that doesn't have as many entries as its `# entries:` line says",
    "from_hits_more": "direction `from` hits more than answers of the service (a warning)",
    "host_bits": "a prefix with bits set behind its length",
    "ignored_file": "a file that isn't read because of its name or place (a warning)",
    "interface_unseen": "a scope of outgoing interfaces, which the hook prerouting doesn't know",
    "list_empty": "a list that must name something and is empty",
    "manifest_invalid": "a manifest of the directory that isn't written as manifests are",
    "manifest_old": "a manifest older than one that was accepted, or another one of the same serial",
    "manifest_unknown": "which manifest was accepted last can't be read back",
    "many_documents": "more than one YAML document in a file",
    "many_faults": "the rest of the faults of one file, counted",
    "memory_short": "a policy's lists are too long for the memory that the daemon may have",
    "missing_key": "a required key that isn't there",
    "must_continue_hit": "a policy drops or rejects what it says must continue",
    "not_as_signed": "the directory isn't what its manifest says",
    "not_found": "a file that is named and isn't there",
    "not_regular": "a directory, pipe or device where a file is expected",
    "not_signed": "no manifest of the directory has as many signatures as the settings require",
    "not_text": "bytes or characters that have no place in a text file",
    "one_family": "`scope.sources` names one family only: the other isn't blocked (a warning)",
    "orders_conflict": "one policy blocks what another says must continue (a warning)",
    "outside_policies": "a path or link that leads out of the policies directory",
    "protected_hit": "a policy takes in addresses that the settings protect",
    "service_broken": "a policy names a service that has faults of its own",
    "share_too_large": "a policy blocks a larger share of all addresses than the settings allow",
    "signature_ignored": "a signature of the manifest that doesn't count (a warning)",
    "tag_refused": "an explicit YAML tag",
    "too_deep": "YAML nested deeper than any of our files need",
    "too_large": "a file over its limit of size",
    "too_wide": "an entry wider than the settings allow, or entries that match every address of a family",
    "unknown_key": "a key that isn't known here",
    "unknown_service": "a policy names a service that no file describes",
    "unreadable": "the system refuses to read it",
    "writable_by_others": "every user of the host can write it, or a folder on the way to it",
    "wrong_folder": "a service file among the policies, or a policy among the services",
    "wrong_type": "a value of the wrong type",
    "yaml_syntax": "not YAML",
    "yaml_trap": "an unquoted word that YAML readers take for something else than it looks",
}

assert set(CODES) == set(get_args(Code))  # noqa: S101 - two tables of one thing, held together at import

#: So many faults of one file are told apart; the rest are counted.
CAP = 100


def fault(place: Place, code: Code, message: str, severity: Severity = "error") -> Fault:
    """Make a fault, on one line whatever it quotes. The only way to, so that the type check knows every code."""
    return Fault(place, code, one_line(message), severity)


def one_line(text: str, limit: int = 500) -> str:
    """Make text of unknown origin fit for a line of a terminal or a log."""
    if not text.isprintable():
        text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def cap(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """Keep the first faults of one file and count the rest, so that a million bad lines don't drown the others."""
    if len(faults) <= CAP:
        return tuple(faults)
    rest = faults[CAP:]
    return (*faults[:CAP], fault(rest[0].place, "many_faults", f"and at least {len(rest)} more from here on"))


def suggest(word: str, known: Iterable[str]) -> str:
    """Say `; did you mean …?` where a known word is close, else nothing."""
    if len(word) > 80:
        return ""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def first_of(words: Sequence[str], most: int) -> str:
    """Name the first few, and count the others."""
    return ", ".join(words[:most]) + (f" and {len(words) - most:,} more" if len(words) > most else "")


def one_of(words: Sequence[str]) -> str:
    """List alternatives for a sentence: `a, b or c`."""
    return _listed(words, "or")


def all_of(words: Sequence[str]) -> str:
    """List things for a sentence: `a, b and c`."""
    return _listed(words, "and")


def _listed(words: Sequence[str], joint: str) -> str:
    *head, last = words
    return f"{', '.join(head)} {joint} {last}" if head else last
