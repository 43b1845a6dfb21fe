"""What is ordered by hand, between the command line and the engine: requests in, what came of them as JSON."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gatewrit.api import control
from gatewrit.cli.app import fault_json
from gatewrit.engine import byhand
from gatewrit.engine.byhand import Done, Request
from gatewrit.engine.takeback import Taking
from gatewrit.policy.instant import utc_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gatewrit.api.control import Caller
    from gatewrit.engine.daemon import Daemon

    Serve = Callable[[Mapping[str, Any], Caller], Awaitable[Mapping[str, Any]]]

VERBS: tuple[byhand.Verb, ...] = ("suspend", "resume", "release", "forget")
TAKES: Mapping[str, type[str | int | bool]] = {"policy": str, "until": int, "reason": str}


def verbs(daemon: Daemon) -> dict[str, control.Verb]:
    """Give what the control socket can ask for by hand. A request without `policy` means all of them."""

    def serving(make: Callable[..., Request | Taking]) -> Serve:
        async def serve(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
            try:
                return done_json(await daemon.by_hand(make(by=caller.name, uid=caller.uid, **arguments)))
            except byhand.RefusedError as refusal:
                raise control.VerbError(refusal.code, str(refusal)) from None

        return serve

    return {
        **{verb: control.Verb(serving(partial(Request, verb)), TAKES) for verb in VERBS},
        "confirm": control.Verb(serving(partial(Taking, "confirm"))),
        "rollback": control.Verb(serving(partial(Taking, "rollback")), {"generation": int, "token": str}),
    }


def done_json(done: Done) -> dict[str, Any]:
    """Give what came of a request as JSON. `held`: a change of the policy is still, or again, held."""
    until = done.acts[0].until if done.acts else None
    return {
        "ok": done.outcome.ok,
        "policies": [act.policy for act in done.acts],
        "until": None if until is None else utc_text(until),
        "held": done.held,
        "generation": done.outcome.generation,
        "changed": done.outcome.changed,
        "sentence": done.sentence,
        **fault_json(done.outcome.faults),
    }
