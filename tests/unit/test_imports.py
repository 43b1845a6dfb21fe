"""The house stands on its own floors: imports go one way only (DESIGN.md, "The house")."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gatewrit

ROOT = Path(gatewrit.__file__).parent

#: Which packages each package may import, besides itself. Nothing imports `cli`; `policy` and `kernel` are the ground.
MAY = {
    "policy": set(),
    "kernel": set(),
    "compile": {"policy", "kernel"},
    # Its proof is worth something only because it shares nothing with what renders.
    "verify": {"policy", "kernel"},
    "signing": {"policy"},
    "settings": {"policy", "signing"},
    "engine": {"policy", "kernel", "compile", "signing", ""},
    "log": set(),
    "api": {"policy", "engine", "log", ""},
    "cli": {"policy", "kernel", "compile", "engine", "api", "settings", "verify", "signing", "log", ""},
    "": set(),
    "__main__": {"cli"},
}
#: Of the engine, the API sees what it is shown, and nothing else.
API_SEES = {f"gatewrit.engine.{name}" for name in ("answer", "events", "particulars", "snapshot")}

FILES = sorted(ROOT.rglob("*.py"))


def package(module: str) -> str:
    """Name the room a module is in: `gatewrit.kernel.wire` is in `kernel`, `gatewrit` itself in ``."""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide where they go"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {module for module in below if (ROOT.parent / Path(*module.split("."))).with_suffix(".py").exists()}
            packages = {module for module in below if (ROOT.parent / Path(*module.split("."))).is_dir()}
            found |= (known | packages) or {node.module}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    here = package(name_of(path))
    ours = {module for module in imports(path) if module.split(".")[0] == "gatewrit"}
    upwards = {module for module in ours if package(module) not in MAY[here] | {here}}
    assert not upwards


@pytest.mark.parametrize("path", sorted((ROOT / "api").rglob("*.py")), ids=name_of)
def test_the_api_sees_only_what_it_is_shown(path: Path) -> None:
    assert {module for module in imports(path) if module.startswith("gatewrit.engine")} <= API_SEES


def test_two_files_know_pyroute2() -> None:
    users = {name_of(path) for path in FILES if any(module.split(".")[0] == "pyroute2" for module in imports(path))}
    assert users == {"gatewrit.kernel.socket", "gatewrit.kernel.host"}


@pytest.mark.parametrize("path", sorted((ROOT / "engine").rglob("*.py")), ids=name_of)
def test_the_way_to_the_kernel_goes_one_way(path: Path) -> None:
    way = [f"gatewrit.engine.{step}" for step in ("daemon", "reloads", "effect", "passes", "enforcer")]
    here = name_of(path)
    ahead = way[way.index(here) + 1 :] if here in way else []
    assert imports(path) & set(way) <= set(ahead)


def test_the_engine_knows_no_socket() -> None:
    users = {package(name_of(path)) for path in FILES if "gatewrit.kernel.socket" in imports(path)}
    assert users == {"cli", "kernel"}


@pytest.mark.parametrize("pure", ["compile", "policy/model.py", "kernel/ruleset.py", "kernel/transaction.py"])
def test_what_is_pure_has_no_clock_no_files_no_log(pure: str) -> None:
    paths = sorted((ROOT / pure).rglob("*.py")) if (ROOT / pure).is_dir() else [ROOT / pure]
    forbidden = {"time", "datetime", "os", "socket", "asyncio", "pathlib", "structlog", "subprocess"}
    for path in paths:
        assert not {module.split(".")[0] for module in imports(path)} & forbidden, path


def test_no_circle() -> None:
    order = ["policy", "kernel", "signing", "compile", "verify", "settings", "log", "engine", "api", "cli"]
    for here, may in MAY.items():
        if here in order:
            assert all(order.index(other) < order.index(here) for other in may if other)
