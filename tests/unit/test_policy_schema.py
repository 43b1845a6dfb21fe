"""The published JSON Schemas are current, take what the reader takes, and catch what editors should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gatewrit.cli import report_shapes
from gatewrit.policy import load, schema
from gatewrit.policy.decode import to_data
from gatewrit.policy.yaml import read_yaml
from gatewrit.settings import settings_schema

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs/schema"


def document(path: Path) -> Any:
    node, faults = read_yaml(path.read_bytes(), str(path))
    assert node is not None
    assert not faults
    return json.loads(json.dumps(to_data(node)))


def validator(name: str) -> jsonschema.Draft202012Validator:
    made = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def test_the_published_schemas_are_current() -> None:
    made = {**schema.published(), "settings.schema.json": settings_schema(), **report_shapes.schemas()}
    assert {path.name: path.read_text() for path in SCHEMAS.iterdir()} == made


@pytest.mark.parametrize("path", sorted(ROOT.glob("policies/**/*.yaml")), ids=lambda path: path.name)
def test_the_shipped_files_name_their_schema_and_fit_it(path: Path) -> None:
    kind = "service" if path.parent.name == "services" else "policy"
    first = path.read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == SCHEMAS / f"{kind}.schema.json"
    validator(kind).validate(document(path))


@pytest.mark.parametrize("folder", ["all-good", "instants-good", "list-good", "direction-from"])
def test_what_the_reader_takes_the_schema_takes(folder: str) -> None:
    policies, _ = load.load(ROOT / "tests/golden/policies" / folder / "policies")
    assert policies
    for policy in policies:
        validator("policy").validate(document(Path(policy.place.file)))
        for service in policy.services.values():
            validator("service").validate(document(Path(service.place.file)))


@pytest.mark.parametrize(
    "change",
    [
        {"titel": "x"},
        {"title": 1.1},
        {"title": None},
        {"revision": 0},
        {"revision": "1"},
        {"state": "off"},
        {"policy": "Order A"},
        {"effective": {"from": "2015-12-31T00:00:00Z"}},
        {"effective": {"from": "2015-12-31", "until": "2016-12-31T00:00:00Z"}},
        {"block": {"services": [], "action": "drop"}},
        {"block": {"services": ["a"], "action": "block"}},
        {"labels": {"a": 1}},
        {"order": {"authority": "x", "reference": "y"}},
    ],
)
def test_editors_catch_the_usual_slips(change: dict[str, Any]) -> None:
    good = document(ROOT / "tests/golden/policies/all-good/policies/order-a.yaml")
    validator("policy").validate(good)
    with pytest.raises(jsonschema.ValidationError):
        validator("policy").validate({**good, **change})


def test_every_key_is_described() -> None:
    for name in ("policy", "service", "settings"):
        made = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        for part in (made, *made["$defs"].values()):
            assert all(described.get("description") for described in part["properties"].values())
