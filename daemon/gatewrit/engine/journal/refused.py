"""What was read and didn't count: the texts of a refused revision, and who wrote the files when. Pure.

A refusal's place is in the policy's own file. Its services come with it, for it may be one of them that was at fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatewrit.engine.journal.rows import named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.load import Loaded


class Refused:
    """The files of one reading, asked for what a refusal was about."""

    def __init__(self, loaded: Mapping[str, Loaded]) -> None:
        self._loaded = loaded
        self._services: dict[str, Loaded] | None = None

    def texts(self, place: str | None) -> dict[str, Any] | None:
        """Say which texts were refused at a place (`file:line:column`), None if its file couldn't be read.

        Its shape is that of `Kept.document_json`; of services, those are in it that could be read.
        """
        found = self._loaded.get(place.rsplit(":", 2)[0]) if place else None
        if found is None or found.kind != "policy":
            return None
        if self._services is None:
            self._services = {each.handle: each for each in self._loaded.values() if each.kind == "service"}
        services = {name: self._services[name] for name in found.uses if name in self._services}
        return {
            "policy": _reference(found),
            "services": {name: {**_reference(each), "lists": self._lists(each)} for name, each in services.items()},
        }

    def _lists(self, service: Loaded) -> dict[str, Any]:
        return {each: _reference(self._loaded[each]) for each in service.uses if each in self._loaded}


def stamps(texts: Mapping[str, Any], loaded: Mapping[str, Loaded]) -> dict[str, Any]:
    """Say when each file was last changed (epoch seconds), and whose it is, as it was when it was read.

    A file that no longer held that text when it was read last isn't in it.
    """
    return {
        each["file"]: {"mtime": found.mtime, "uid": found.uid}
        for each in named(texts)
        if (found := loaded.get(each["file"])) is not None and found.source.sha256 == each["sha256"]
    }


def _reference(loaded: Loaded) -> dict[str, str]:
    return {"file": loaded.source.file, "sha256": loaded.source.sha256}
