"""What every test may ask for.

Where a lab can't be built that is a failure, which says why: a skip may not look like a pass.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from lab import Lab, LabError, Namespace
from support.gateway import Gateway, gateway_in

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Machines differ in speed, so no example has a deadline; a longer search is `--hypothesis-profile=soak`.
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("default", max_examples=60, deadline=None, suppress_health_check=_CHECKS)
settings.register_profile("soak", settings.get_profile("default"), max_examples=5000)
# Shows the first failure as it was found: making it small can take minutes.
settings.register_profile("unshrunk", settings.get_profile("default"), phases=(Phase.explicit, Phase.generate))
settings.load_profile("default")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, which has all that tests need, a skipped one has failed."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail") and call.excinfo is not None:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI takes no skip for a pass: {call.excinfo.value}"
    return report


#: What runs one after the other, and beside the others: what floods and measures instants; what starts daemons; what
#: shares a browser, and a daemon that it looks at.
_GROUPS = {
    "flood": {"fault", "kernel", "lab", "load"},
    "service": {"service"},
    "browser": {"browser"},
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what works with a real kernel run in few processes, where tests run in several."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        for name, folders in _GROUPS.items():
            if folder in folders:
                item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session")
def _nftables() -> None:
    try:
        with Namespace() as space:
            space.nft("table inet probe { chain c { type filter hook forward priority 0; }\n}\n")
    except LabError as error:
        pytest.fail(f"kernel tests cannot run here: {error}", pytrace=False)


@pytest.fixture
def namespace(_nftables: None) -> Iterator[Namespace]:
    """One fresh, empty network namespace."""
    with Namespace() as space:
        yield space


@pytest.fixture
def lab(_nftables: None) -> Iterator[Lab]:
    """Subscriber, gateway and internet, nothing loaded and nobody listening."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def gateway(lab: Lab, tmp_path: Path) -> Iterator[Gateway]:
    """The lab's gateway, with settings and an empty policies directory; nothing runs yet."""
    with gateway_in(lab.gateway, tmp_path) as gateway:
        yield gateway
