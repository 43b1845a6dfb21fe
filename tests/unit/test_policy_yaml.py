from __future__ import annotations

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.policy import yaml
from gatewrit.policy.decode import to_data
from gatewrit.policy.scalar import Trap, resolve
from gatewrit.policy.terms import Place
from gatewrit.policy.yaml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, Mapping, Node, Scalar, Sequence, read_yaml


def data(text: str | bytes) -> object:
    node, faults = read_yaml(text.encode() if isinstance(text, str) else text, "f")
    assert not faults
    assert node is not None
    return to_data(node)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("true", True),
        ("FALSE", False),
        ("tcp/3101", "tcp/3101"),
        ("206.51.26.0/24", "206.51.26.0/24"),
        ("2607:ffc0::/32", "2607:ffc0::/32"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("2015-07-24", "2015-07-24"),
        ("2015-12-31T00:00:00+05:00", "2015-12-31T00:00:00+05:00"),
        ("nope", "nope"),
        ("node", "node"),
        ("-", "-"),
        (".", "."),
        ("1" * 31, int("1" * 31)),
        ("1.2.3", "1.2.3"),
        ("0_", Trap("0_", "the number 0", "0")),
    ],
)
def test_a_plain_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    resolved = resolve(text)
    assert (type(resolved), resolved) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "taken_for", "number"),
    [
        ("no", "false", None),
        ("No", "false", None),
        ("OFF", "false", None),
        ("yes", "true", None),
        ("on", "true", None),
        ("~", None, None),
        ("null", None, None),
        ("", None, None),
        ("0777", "the octal number 511", "777 or 511, whichever is meant"),
        ("010", "the octal number 8", "10 or 8, whichever is meant"),
        ("089", "a number to some and text to others", "89"),
        ("0x1f", "the number 31", "31"),
        ("0o17", "the number 15", "15"),
        ("0b11", "the number 3", "3"),
        ("1_000", "the number 1000", "1000"),
        ("1_0.5", "the number 10.5", "10.5"),
        ("0._", "the number 0.", "0."),
        (".5_0e+1", "the number .50e+1", ".50e+1"),
        ("22:30", "the number 1350 (base 60)", None),
        ("1:30:00", "the number 5400 (base 60)", None),
        ("-1:30", "the number -90 (base 60)", None),
        ("1" * 50, "a number", None),
        ("1." + "1" * 500, "a number", None),
        (".inf", "no finite number", None),
        ("-.INF", "no finite number", None),
        (".nan", "no finite number", None),
    ],
)
def test_what_readers_disagree_about_is_a_trap(text: str, taken_for: str | None, number: str | None) -> None:
    assert resolve(text) == Trap(text, taken_for, number)
    quoted, _ = read_yaml(f'k: "{text}"'.encode(), "f")
    assert quoted is not None
    assert to_data(quoted) == {"k": text}


@given(st.text(alphabet="0123456789_.:+-exobafnOIN~yesnotru", max_size=12))
def test_whatever_another_reader_takes_for_no_text_is_no_text_here(text: str) -> None:
    other = pyyaml.SafeLoader("").resolve(pyyaml.ScalarNode, text, (True, False))
    is_date = other == "tag:yaml.org,2002:timestamp"
    is_address = text.count(":") > 6
    if other != "tag:yaml.org,2002:str" and not is_date and not is_address and len(text) <= 40:
        assert not isinstance(resolve(text), str)


def test_every_node_knows_its_place() -> None:
    root, _ = read_yaml("# ä\r\nkey: ['ü', b]\r\nother:\r\n  - {x: y}\r\n".encode(), "dir/f.yaml")
    assert isinstance(root, Mapping)
    assert root.place == Place("dir/f.yaml", 2, 1)
    assert root.keys["other"].place == Place("dir/f.yaml", 3, 1)
    listed = root.get("key")
    assert isinstance(listed, Sequence)
    assert [item.place.column for item in listed.items] == [7, 12]
    inner = root.get("other")
    assert isinstance(inner, Sequence)
    assert inner.items[0].place == Place("dir/f.yaml", 4, 5)
    assert root.get("nowhere") is None


def test_blocks_and_quotes_are_text() -> None:
    assert data("a: |\n  no\n  \tx\nb: >-\n  1\n  2\nc: '1'\nd: \"\\x41\"\n") == {
        "a": "no\n\tx\n",
        "b": "1 2",
        "c": "1",
        "d": "A",
    }


def test_the_first_of_two_equal_keys_is_kept_so_that_the_rest_can_be_checked() -> None:
    root, faults = read_yaml(b"a: 1\na: 2\n'a': 3\n? [x]\n: y\n", "f")
    assert root is not None
    assert to_data(root) == {"a": 1}
    assert [(fault.code, fault.place.line) for fault in faults] == [
        ("duplicate_key", 2),
        ("duplicate_key", 3),
        ("wrong_type", 4),
    ]


def test_a_large_file_is_refused_unread() -> None:
    node, faults = read_yaml(b"\xff" * (MAX_BYTES + 1), "f")
    assert node is None
    assert [fault.code for fault in faults] == ["too_large"]
    assert read_yaml(b"# " + b"x" * (MAX_BYTES - 10) + b"\na: b\n", "f")[1] == ()


def test_depth_is_bounded_at_the_depth_said() -> None:
    assert read_yaml(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "f")[1] == ()
    _, faults = read_yaml(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "f")
    assert [fault.code for fault in faults] == ["too_deep"]


def test_a_million_brackets_cost_nothing() -> None:
    _, faults = read_yaml(b"[" * 1_000_000, "f")
    assert [fault.code for fault in faults] == ["too_deep"]


def test_values_are_bounded_at_the_number_said() -> None:
    # A list and its items; one that is wrong costs much more to tell than to write.
    assert read_yaml(b"[" + b"x," * (MAX_VALUES - 1) + b"]", "f")[1] == ()
    _, faults = read_yaml(b"[" + b"x," * MAX_VALUES + b"]", "f")
    assert [(fault.code, fault.place.column) for fault in faults] == [("too_large", 2 * MAX_VALUES)]


def plain(node: Node | None) -> object:
    match node:
        case Scalar():
            return (node.text, node.plain)
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return [(key, plain(value)) for key, value in node.values.items()]
    return None


SAMPLES = (
    "a: b\nc: [1, 'x', {d: e}]\n",
    "# c\n---\na: |\n  text\n   more\nb: >-\n  folded\n  text\n...\n",
    "- a\n- - b\n  - c\n",
    "a: &x b\nc: *x\n",
    "a: !!str b\n",
    "a: b: c\n",
    "a: 'open\n",
    "a: [b\n",
    "\tb: c\n",
    "- a\n-b\n",
    "%YAML 1.1\n---\na\n---\nb\n",
    "",
)


@pytest.mark.parametrize("text", SAMPLES)
def test_a_build_without_libyaml_reads_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, fast_faults = read_yaml(text.encode(), "f")
    monkeypatch.setattr(yaml, "Parser", pyyaml.SafeLoader)
    slow, slow_faults = read_yaml(text.encode(), "f")
    assert plain(slow) == plain(fast)
    assert [fault.code for fault in slow_faults] == [fault.code for fault in fast_faults]


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(junk: bytes) -> None:
    node, faults = read_yaml(junk, "f")
    assert (node is not None) or faults


@given(st.text(alphabet="ab: -[]{},'\"\n\t#&*!|>%@`?\\~0", max_size=60))
def test_no_punctuation_crashes_the_reader(junk: str) -> None:
    node, faults = read_yaml(junk.encode(), "f")
    assert (node is not None) or faults
    lines = junk.count("\n") + 1
    assert all(1 <= fault.place.line <= lines and fault.place.column >= 1 for fault in faults)
