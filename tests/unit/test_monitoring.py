"""The alarms and the dashboard that are shipped: they ask for metrics that there are, and raise what they should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gatewrit.api.metrics import exposition
from unit.api_samples import DEGRADED

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs/monitoring/gatewrit.rules.yml"
CASES = ROOT / "tests/support/monitoring/gatewrit.test.yml"
DASHBOARD = ROOT / "docs/monitoring/gatewrit.dashboard.json"
FULL = replace(DEGRADED, desired=(14, 3))


def promtool(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("promtool", path=places)
    assert program, "Prometheus' promtool isn't here: run `make promtool`"
    return subprocess.run([program, *words], input=given, capture_output=True, text=True, check=False, timeout=60)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def known() -> set[str]:
    body = exposition(FULL)
    shown = {sample.name for family in text_string_to_metric_families(body.decode()) for sample in family.samples}
    return shown | {rule["record"] for rule in rules() if "record" in rule} | {"up"}


def asked_for(query: str) -> set[str]:
    bare = re.sub(r'"[^"]*"', "", query)
    return set(re.findall(r"\bgatewrit[a-z_0-9:]*", bare))


@pytest.mark.parametrize(
    "query", [*(rule["expr"] for rule in rules()), *queries(), "label_values(gatewrit_build_info)"]
)
def test_every_query_is_about_metrics_that_there_are(query: str) -> None:
    assert asked_for(query) <= known()
    assert asked_for(query) or "up{" in query


def test_the_alarms_are_sound_and_raised_when_they_should_be() -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", str(CASES))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    healthy, wrong = yaml.safe_load(CASES.read_text())["tests"]
    alarms = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {each["alertname"] for each in healthy["alert_rule_test"]} == alarms
    raised = wrong["promql_expr_test"][0]["exp_samples"]
    assert {re.findall(r'alertname="(\w+)"', each["labels"])[0] for each in raised} == alarms


def test_the_dashboard_s_queries_are_queries(tmp_path: Path) -> None:
    plain = [query.replace("$__rate_interval", "5m").replace("$instance", "core-1") for query in queries()]
    groups = [{"name": "g", "rules": [{"record": f"r{number}", "expr": each} for number, each in enumerate(plain)]}]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels)


def test_names_keep_to_prometheus_conventions() -> None:
    body = exposition(FULL)
    checked = promtool("check", "metrics", given=body.decode())
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_name_that_breaks_them_is_found_out() -> None:
    assert promtool("check", "metrics", given="# HELP a x\n# TYPE a counter\na 1\n").returncode != 0


def test_every_alarm_says_what_it_means_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"].keys() == {"summary", "description"}
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}
