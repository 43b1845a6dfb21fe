"""The page as a browser reads it: nothing runs, nothing is fetched elsewhere, the verdict stands first."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import pytest

from gatewrit.api import lookup, page, shown
from gatewrit.api.listing import Listing
from gatewrit.engine.snapshot import Enforcement, PolicyState, PolicyView, Progress, Snapshot
from gatewrit.policy.terms import Effective, Instant, Order
from unit.api_samples import (
    ACCEPTED,
    DEGRADED,
    EVENTS,
    IN_SYNC,
    NOW,
    PARTICULARS,
    SCHEDULED,
    SHUTDOWN,
    STARTING,
    UNREAD_PROBLEM,
)

VOID = {"meta", "link", "img", "br", "input"}


class Reader(HTMLParser):
    """What a browser makes of it: elements with their attributes and text, and whether all are closed."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        #: The text of each element with dir="auto", as only such text comes from policy files.
        self.auto: list[str] = []
        self._auto_depth: list[int] = []
        self.feed(body.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            if ("dir", "auto") in attrs:
                self._auto_depth.append(len(self.open))
                self.auto.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._auto_depth and self._auto_depth[-1] == len(self.open):
            self._auto_depth.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if self._auto_depth:
            self.auto[-1] += data

    @property
    def text(self) -> str:
        """All text, with single blanks for any white space, the unbreakable kinds too."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(snapshot: Snapshot, now: int = NOW, listing: Listing = Listing()) -> Reader:  # noqa: B008 (frozen)
    return Reader(page.render(snapshot, now, listing))


def read_order(view: PolicyView, now: int = NOW, text: str = "words") -> Reader:
    """Read an order's page, on which everything but the view itself says `text`."""
    blocked = replace(PARTICULARS.services[0], name=text, title=text, file=text)
    particulars = replace(
        PARTICULARS,
        place=text,
        services=(blocked,),
        must_continue=(blocked,),
        scope_gateways=(text,),
        scope_interfaces=(text,),
        allow_wide=text,
    )
    history = [replace(ACCEPTED, policy=text, message=text, kind=text)]
    return Reader(page.render_order(replace(DEGRADED, policies=(view,)), now, view, particulars, history))


def test_the_verdict_is_the_first_thing_said() -> None:
    reader = read(IN_SYNC)
    text = reader.text
    assert "Enforced exactly as ordered" in text.partition("Orders")[0]
    assert "Last verified 12 s ago" in text
    assert text.count("12 s ago") == text.lower().count("verified") == 1, "what is said twice goes stale once"
    assert {"data-ago": str(NOW - 12)} in reader.all("span"), "the script goes on counting"
    assert text.index("Enforced exactly") < text.index("bes-shutdown")


def test_what_needs_attention_says_what_to_do() -> None:
    text = read(DEGRADED).text
    assert "Degraded: 1 error needs attention" in text
    assert "'prot' isn't a key of an endpoint" in text
    assert "What to do Correct the file and run: gatewrit reload" in text
    assert "policies/unread.yaml:14:7" in text
    assert "2016-01-05 11:56:40 UTC , 3 min 20 s ago" in text


def test_a_policy_is_shown_whole() -> None:
    text = read(IN_SYNC).text
    for part in (
        "in force for 5 days ends in 360 days",
        "Shut down BlackBerry Enterprise Services",
        "bes-shutdown · revision 2",
        "Pakistan Telecommunication Authority PTA notification of 2015-07-24",
        "reject to blackberry-enterprise",
        "93 440 IPv4",
        "2.38 \N{MULTIPLICATION SIGN} 10²⁹ IPv6",
        "120 433",
    ):
        assert part in text, part


def test_instants_are_shown_in_utc_and_on_the_order_s_own_clock() -> None:
    reader = read_order(SHUTDOWN)
    assert "From 2015-12-30 19:00 UTC 2015-12-31 00:00 Asia/Karachi (+05:00)" in reader.text
    assert "Until 2016-12-30 19:00 UTC 2016-12-31 00:00 +05:00" in reader.text
    assert "Review due 2016-03-01 00:00 UTC" in reader.text
    assert {"datetime": "2015-12-30T19:00:00Z"} in reader.all("time")
    listed = read(IN_SYNC)
    assert "When (UTC)" in listed.text
    assert "from 2015-12-30 19:00 until 2016-12-30 19:00 review 2016-03-01 00:00" in listed.text


def test_a_review_that_is_overdue_is_said_so() -> None:
    assert "overdue" not in read(IN_SYNC, 1456790399).text
    assert "review 2016-03-01 00:00 overdue" in read(IN_SYNC, 1456790400).text


def test_what_is_scheduled_counts_down() -> None:
    assert "scheduled starts in 2 h" in read(DEGRADED).text
    assert "Next change in 2 h 2016-01-05 14:00 UTC" in read(DEGRADED).text


@pytest.mark.parametrize(
    ("enforcement", "words"),
    [
        ("starting", "Starting: what is ordered isn't confirmed in the kernel yet"),
        ("degraded", "Degraded: not everything that is ordered can be vouched for"),
        ("drifted", "Drifted: the kernel doesn't hold what is ordered"),
        ("failed", "Failed: what is ordered can't be put into the kernel"),
    ],
)
def test_every_verdict_has_words_an_icon_and_a_title(enforcement: str, words: str) -> None:
    reader = read(replace(IN_SYNC, enforcement=Enforcement(enforcement)))
    assert f"core-1: {words}" in reader.texts
    assert words in reader.texts
    assert "Enforced exactly" not in reader.text
    icon = reader.all("img")[0]["src"] or ""
    assert shown.icon(icon.removeprefix("/icon/").removesuffix(".svg"))


def test_before_the_first_pass_nothing_is_claimed() -> None:
    text = read(STARTING).text
    assert "Last verified not yet" in text
    assert "Changed not yet" in text
    assert "There are no policies" in text


def test_a_pass_under_way_is_shown_and_asked_for_more_often() -> None:
    reader = read(replace(IN_SYNC, progress=Progress("loading prefixes", 3, 7, NOW - 4)))
    assert "Under way: loading prefixes, 3 of 7, for 4 s" in reader.text
    assert {"http-equiv": "refresh", "content": "2"} in reader.all("meta")
    assert {"http-equiv": "refresh", "content": "10"} in read(IN_SYNC).all("meta")


def test_the_verdict_and_what_needs_attention_can_be_sent_before_the_orders_are_rendered() -> None:
    pieces = page.pieces(DEGRADED, NOW)
    opening = next(pieces).decode()
    assert "Degraded: 1 error needs attention" in opening
    assert UNREAD_PROBLEM.code in opening
    assert "policy-bes-shutdown" not in opening
    assert opening.encode() + b"".join(pieces) == page.render(DEGRADED, NOW)


def test_the_moment_of_rendering_is_shown() -> None:
    assert "As of 2016-01-05 12:00:00 UTC" in read(IN_SYNC).text


HOSTILE = (
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "</title></style></table><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "&lt;b&gt;&#x3c;",
    "\u202eevil\u2066",
    "bad-\udcff\x00\x1b[2J",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text(hostile: str) -> None:
    problem = replace(UNREAD_PROBLEM, code=hostile, message=hostile, action=hostile, policy=hostile, place=hostile)
    view = replace(
        SHUTDOWN,
        id=hostile,
        title=hostile,
        order=wordy(hostile),
        effective=Effective(Instant(0, hostile, hostile, 3600)),
        services=(hostile, hostile),
        problem=problem,
        labels={hostile: hostile},
    )
    harmless = read(replace(DEGRADED, policies=(SHUTDOWN, SCHEDULED, replace(SHUTDOWN, problem=UNREAD_PROBLEM))))
    harmless_order = read_order(replace(SHUTDOWN, problem=UNREAD_PROBLEM, order=wordy("words")))
    _stays_text(
        hostile,
        read(replace(DEGRADED, gateway=hostile, policies=(SHUTDOWN, SCHEDULED, view), problems=(problem,))),
        harmless,
    )
    _stays_text(hostile, read_order(replace(view, effective=SHUTDOWN.effective), text=hostile), harmless_order)


def wordy(text: str) -> Order:
    return Order(text, text, text, SHUTDOWN.order.received if SHUTDOWN.order else None, *[text] * 7)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_typed_into_the_look_up_stays_text(hostile: str) -> None:
    with pytest.raises(lookup.UnreadableError) as refused:
        lookup.read(hostile)
    reader = Reader(page.render_lookup(DEGRADED, NOW, hostile, wrong=str(refused.value)))
    harmless = Reader(page.render_lookup(DEGRADED, NOW, "x", wrong="x"))
    assert {tag for tag, _ in reader.elements} == {tag for tag, _ in harmless.elements}
    (typed,) = [each for each in reader.all("input") if each["id"] == "typed"]
    assert typed["value"] == hostile.encode("utf-8", "replace").decode()


def _stays_text(hostile: str, reader: Reader, harmless: Reader) -> None:
    assert {tag for tag, _ in reader.elements} == {tag for tag, _ in harmless.elements}
    known = {(tag, name) for tag, attributes in harmless.elements for name in attributes}
    assert {(tag, name) for tag, attributes in reader.elements for name in attributes} <= known
    assert not any((link["href"] or "").startswith("javascript") for link in reader.all("a"))
    shown = hostile.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    assert shown in {text.replace("\x00", "\ufffd") for text in reader.auto}, "shown as it is, in a box of its own"


def test_right_to_left_text_has_a_direction_of_its_own() -> None:
    assert SCHEDULED.title in read(DEGRADED).auto
    assert "لاہور ہائی کورٹ" in read(DEGRADED).auto


def test_nothing_is_fetched_from_elsewhere_and_nothing_runs() -> None:
    reader = read(DEGRADED)
    for tag, attributes in reader.elements:
        assert tag not in {"iframe", "object"}
        if tag == "script":
            assert attributes == {"type": "module", "src": "/live.js"}
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src", "action"):
            assert (attributes.get(name) or "/")[0] in "/#"
            assert not (attributes.get(name) or "").startswith("//")
    for name in shown.STATIC:
        body, _ = shown.static(name)
        assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)|innerHTML|eval\(", body.decode()), name
    assert not re.search(r"url\(|@import|//|</", shown.style()), "a style sheet that ends where it stands"


def test_links_within_the_page_lead_somewhere() -> None:
    reader = read(DEGRADED)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in reader.all("a"):
        if (link["href"] or "").startswith("#"):
            assert (link["href"] or "")[1:] in ids


def test_of_ten_thousand_policies_those_in_force_are_shown() -> None:
    views = tuple(replace(SHUTDOWN, id=f"p{i:05}", state=PolicyState.LAPSED) for i in range(10000))
    views += (replace(SHUTDOWN, id="zzz-in-force"),)
    body = page.render(replace(DEGRADED, policies=views, problems=(UNREAD_PROBLEM,) * 10000), NOW)
    reader = Reader(body)
    assert "zzz-in-force" in reader.text
    assert "1 to 50 of 10 001" in reader.text
    assert "The first 20 of 10 000 are shown" in reader.text
    assert len(body) + sum(len(shown.static(name)[0]) for name in shown.STATIC) < 150_000


def test_the_package_carries_its_templates() -> None:
    names = {item.name for item in resources.files("gatewrit.api").joinpath("static").iterdir()}
    assert names == {*shown.STATIC, "page.css"}


def test_an_order_is_told_with_all_that_belongs_to_it() -> None:
    text = Reader(page.render_order(IN_SYNC, NOW, SHUTDOWN, PARTICULARS, EVENTS)).text
    for said in (
        "BlackBerry Enterprise Service (SRP) blackberry-enterprise",
        "tcp/3101 at 256 IPv4",
        "206.51.26.0/24 2607:ffc0::/32",
        "Excepted 206.51.26.33",
        "Gateways core-*",
        "revision 2 was accepted, active",
        "revision 2 of bes-shutdown counts (before: 1)",
    ):
        assert said in text, said


def test_what_nobody_can_tell_of_an_order_is_said() -> None:
    text = Reader(page.render_order(IN_SYNC, NOW, SHUTDOWN)).text
    assert "can't be shown: the daemon that enforces doesn't tell them now" in text
    assert "The journal can't be read now" in text


def test_what_happened_last_stands_on_the_page() -> None:
    reader = Reader(page.render(IN_SYNC, NOW, events=EVENTS[::-1]))
    assert "the daemon has started" in reader.text
    assert "accepted revision 2 of bes-shutdown counts (before: 1) bes-shutdown" in reader.text


def test_a_daemon_that_is_silent_makes_the_verdict_unknown() -> None:
    silent = replace(UNREAD_PROBLEM, code="enforcer_silent", policy=None)
    reader = read(replace(DEGRADED, problems=(silent,)))
    assert "core-1: Unknown: the daemon that enforces isn't heard from" in reader.texts
    assert reader.all("img")[0]["src"] == "/icon/unknown.svg"
