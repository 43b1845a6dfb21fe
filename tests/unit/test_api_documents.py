"""The documents against the contract, written out by hand: outside programs are written against these names."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gatewrit.api.documents import encode, instant, policy_item, status_document
from gatewrit.engine.snapshot import Accepted, Histogram, PolicyState, Progress, observed
from unit.api_samples import DEGRADED, NOW, SHUTDOWN, STARTING, UNREAD

SHUTDOWN_ITEM = {
    "id": "bes-shutdown",
    "title": "Shut down BlackBerry Enterprise Services",
    "revision": 2,
    "order": {
        "authority": "Pakistan Telecommunication Authority",
        "reference": "PTA notification of 2015-07-24",
        "issued": "2015-07-24",
        "received": "2015-07-24T13:00:00Z",
        "ticket": "REG-7",
        "contact": None,
        "url": None,
        "basis": None,
        "text": None,
        "document_sha256": None,
        "supersedes": None,
    },
    "effective": {
        "from": "2015-12-30T19:00:00Z",
        "until": "2016-12-30T19:00:00Z",
        "review_by": "2016-03-01T00:00:00Z",
    },
    "state": "in_force",
    "action": "reject",
    "direction": "to",
    "services": ["blackberry-enterprise"],
    "counters": {"packets": 120433, "bytes": 7226011},
    "addresses": {"ipv4": "93440", "ipv6": "237684487542793012780631851008"},
    "in_force_since": "2015-12-30T19:00:00Z",
    "problem": None,
    "labels": {"ticket-queue": "regulatory"},
}

PROBLEM = {
    "code": "policy_rejected",
    "severity": "error",
    "policy": "unread",
    "message": "'prot' isn't a key of an endpoint",
    "action": "Correct the file and run: gatewrit reload",
    "since": "2016-01-05T11:56:40Z",
    "place": "policies/unread.yaml:14:7",
}

UNREAD_ITEM = {
    "id": "unread",
    "title": None,
    "revision": None,
    "order": None,
    "effective": None,
    "state": "rejected",
    "action": None,
    "direction": None,
    "services": [],
    "counters": {"packets": 0, "bytes": 0},
    "addresses": {"ipv4": "0", "ipv6": "0"},
    "in_force_since": None,
    "problem": PROBLEM,
    "labels": {},
}

STATUS = {
    "gateway": "core-1",
    "version": "0.1.0",
    "now": "2016-01-05T12:00:00Z",
    "enforcement": "degraded",
    "ruleset": {
        "generation": 7,
        "digest": "sha256:9f86d081884c7d65",
        "applied_at": "2016-01-05T11:00:00Z",
        "verified_at": "2016-01-05T11:59:48Z",
        "segments": {"ipv4": 13, "ipv6": 3},
    },
    "policies": {
        "in_force": 1,
        "scheduled": 1,
        "suspended": 0,
        "lapsed": 0,
        "rescinded": 0,
        "rejected": 1,
        "out_of_scope": 0,
    },
    "problems": [PROBLEM],
    "progress": None,
    "manifest": None,
}


def in_order(document: object) -> str:
    return json.dumps(document)


def test_the_status_is_the_contract_s_to_the_letter() -> None:
    assert in_order(status_document(DEGRADED, NOW)) == in_order(STATUS)


def test_what_has_not_come_about_is_null() -> None:
    ruleset = status_document(STARTING, NOW)["ruleset"]
    assert ruleset == {
        "generation": 0,
        "digest": None,
        "applied_at": None,
        "verified_at": None,
        "segments": {"ipv4": 0, "ipv6": 0},
    }


def test_the_accepted_manifest_is_shown() -> None:
    signed = replace(STARTING, manifest=Accepted(8, "sha256:x", NOW - 60, ("alice (SHA256:y)",), NOW))
    assert status_document(signed, NOW)["manifest"] == {
        "serial": 8,
        "digest": "sha256:x",
        "made": instant(NOW - 60),
        "accepted_at": instant(NOW),
        "signers": ["alice (SHA256:y)"],
    }


def test_what_is_under_way_is_told() -> None:
    busy = replace(STARTING, progress=Progress("preparing set elements in the kernel", 3, 7, NOW - 4))
    assert status_document(busy, NOW)["progress"] == {
        "activity": "preparing set elements in the kernel",
        "done": 3,
        "total": 7,
        "since": "2016-01-05T11:59:56Z",
    }


def test_an_item_is_the_contract_s_to_the_letter() -> None:
    assert in_order(policy_item(SHUTDOWN)) == in_order(SHUTDOWN_ITEM)


def test_an_item_that_was_never_read_says_so_and_why() -> None:
    assert in_order(policy_item(UNREAD)) == in_order(UNREAD_ITEM)


def test_every_state_is_counted() -> None:
    views = tuple(replace(SHUTDOWN, id=state.value, state=state) for state in PolicyState)
    counts = status_document(replace(DEGRADED, policies=views), NOW)["policies"]
    assert counts == dict.fromkeys(PolicyState, 1)


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00Z"),
        (1451502000, "2015-12-30T19:00:00Z"),
        (9214646400, "2262-01-01T00:00:00Z"),
    ],
)
def test_instants_are_rfc_3339_in_utc(epoch: int | None, text: str | None) -> None:
    assert instant(epoch) == text


def test_what_is_not_text_still_becomes_json() -> None:
    body = encode({"id": "bad-\udcff", "title": "اردو\x00\u2028"})
    assert json.loads(body) == {"id": "bad-?", "title": "اردو\x00\u2028"}


def test_observations_fall_into_their_buckets() -> None:
    histogram = Histogram(bounds=(1.0, 2.0), counts=(0, 0, 0))
    for seconds in (0.5, 1.0, 1.5, 3.0):
        histogram = observed(histogram, seconds)
    assert histogram == Histogram((1.0, 2.0), (2, 3, 4), 6.0)
