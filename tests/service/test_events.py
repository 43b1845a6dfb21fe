"""What happens is told to who listens, by a process that reads no journal, over the ends of both processes."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any

from support.gateway import UnixHTTP, until
from unit.test_api_http import CLOSELY

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

    from support.gateway import Gateway

PREFIX = "203.0.113.0/24"


class Stream:
    """`/v1/events`, read event by event."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.last = ""

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """Give the next event, None at the end."""
        name = ""
        while line := self._response.readline().decode():
            field, _, value = line.removesuffix("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                self.last = value
            elif field == "data":
                return name, json.loads(value)
        return None

    def until(self, kind: str) -> list[tuple[str, str, str | None]]:
        """Give event, kind and policy of all up to one kind."""
        found: list[tuple[str, str, str | None]] = []
        while not found or found[-1][1] != kind:
            event = self.next()
            assert event is not None, found
            found.append((event[0], event[1]["kind"], event[1]["policy"]))
        return found


@contextlib.contextmanager
def listening(gateway: Gateway, last: str = "") -> Iterator[Stream]:
    connection = UnixHTTP(gateway.web)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/events", headers={"Host": "localhost", "Last-Event-ID": last})
        response = connection.getresponse()
        assert response.status == 200
        yield Stream(response)


def test_what_happens_is_told_as_it_happens_and_to_who_comes_back(gateway: Gateway) -> None:
    gateway.set(table_owner=False)
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    with listening(gateway) as stream:
        assert [each[1] for each in stream.until("in_sync")] == ["in_sync"]
        gateway.order("beta", ["198.51.100.0/24", "2001:db8::/32", "192.0.2.7"], "tcp/80")
        gateway.reload()
        assert stream.until("state") == [
            ("policy", "accepted", "beta"),
            ("enforcement", "applied", None),
            ("policy", "enforced", "beta"),
            ("policy", "state", "beta"),
        ]
        gateway.nft("delete table inet gatewrit")
        assert stream.until("drift")[-1] == ("drift", "drift", None)
        seen = stream.last

        # An enforcer that is gone is no healthy one.
        gateway.end(signal.SIGKILL)
        # A child of `gatewrit run` ends with it, so that the stream does.
        while stream.next() is not None:
            pass
    gateway.start()
    with listening(gateway, seen) as stream:
        assert [each[1] for each in stream.until("in_sync")][:1] == ["started"]
    with listening(gateway, "0") as stream:
        kinds = [each[1] for each in stream.until("in_sync")]
        assert kinds[:2] == ["begun", "started"]
        assert kinds.count("started") == 2
        assert "gap" not in kinds
    with listening(gateway, "1000000") as stream:
        assert [each[1] for each in stream.until("in_sync")] == ["gap", "in_sync"]


def test_one_policy_with_all_that_is_shown_of_it(gateway: Gateway) -> None:
    gateway.order("beta", ["198.51.100.0/24", "2001:db8::/32", "192.0.2.7"], "tcp/80")
    gateway.start()
    code, document = gateway.get("/v1/policies/beta")
    assert code == 200
    assert document.keys() > CLOSELY.keys()
    (service,) = document["endpoints"]
    assert service["endpoints"] == [
        {
            "prefixes": {
                "entries": 3,
                "first": ["198.51.100.0/24", "192.0.2.7", "2001:db8::/32"],
                "addresses": {"ipv4": "257", "ipv6": str(2**96)},
            },
            "ports": ["tcp/80"],
        }
    ]
    assert document["except"]["sources"] == {"ipv4": "0", "ipv6": "0"}
    assert document["scope"] == {"gateways": None, "interfaces": None, "sources": None}
    until(lambda: gateway.get("/v1/policies/beta/history")[1]["items"])
    _, document = gateway.get("/v1/policies/beta")
    assert [(each["revision"], each["says"]) for each in document["revisions"]] == [(1, "active")]
    _, history = gateway.get("/v1/policies/beta/history")
    assert [each["kind"] for each in history["items"]] == ["state", "enforced", "accepted"]
    _, addresses = gateway.get("/v1/policies/beta/addresses?limit=2")
    assert [each["prefix"] for each in addresses["items"]] == ["198.51.100.0/24", "192.0.2.7"]
    assert addresses["total"] == 3
    _, rest = gateway.get(f"/v1/policies/beta/addresses?cursor={addresses['next']}")
    assert [each["prefix"] for each in rest["items"]] == ["2001:db8::/32"]


def test_how_the_policies_stood_before_an_amendment(gateway: Gateway) -> None:
    gateway.order("beta", "198.51.100.0/24", "tcp/80")
    gateway.start()
    until(lambda: gateway.get("/v1/policies/beta/history")[1]["items"])
    _, history = gateway.get("/v1/policies/beta/history")
    then = history["items"][0]["at"]
    # The journal is asked by the second, so the amendment is in another one.
    until(lambda: gateway.get("/v1/status")[1]["now"] > then)
    gateway.order("beta", ["198.51.100.0/24", "203.0.113.0/24"], "tcp/80", revision=2, state="rescinded")
    gateway.reload()
    assert gateway.get("/v1/policies/beta")[1]["state"] == "rescinded"
    _, stood = gateway.get(f"/v1/policies/beta?at={then}")
    assert (stood["revision"], stood["state"], stood["counters"]) == (1, "in_force", None)
    assert [each["revision"] for each in stood["revisions"]] == [1]
    assert stood["endpoints"][0]["endpoints"][0]["prefixes"]["first"] == ["198.51.100.0/24"]
    assert [each["state"] for each in gateway.get(f"/v1/policies?at={then}")[1]["items"]] == ["in_force"]
    _, status = gateway.get(f"/v1/status?at={then}")
    assert (status["gateway"], status["running"]) == (gateway.status()["gateway"], True)
    open_now = gateway.status()["problems"]
    assert status["problems"] == [{name: each[name] for name in ("code", "policy", "place")} for each in open_now]
    assert (status["policies"]["in_force"], status["policies"]["rescinded"]) == (1, 0)
    ruleset = gateway.status()["ruleset"]
    assert status["ruleset"]["generation"] == ruleset["generation"] - 1
    assert status["ruleset"]["applied_at"] <= then
    assert status["ruleset"]["digest"] not in {None, ruleset["digest"]}
    for path in ("policies", "status"):
        assert gateway.get(f"/v1/{path}?at=2015-01-01T00:00:00Z")[0] == 404
