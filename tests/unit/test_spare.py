"""What memory is left: the tightest of all limits around us, as the kernel writes them down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.kernel.spare import RESERVE, Spare, spare

if TYPE_CHECKING:
    from pathlib import Path

MEGABYTE = 1 << 20


class Host:
    """Files as under /proc and /sys/fs/cgroup."""

    def __init__(self, root: Path, available: int = 9000) -> None:
        self.proc, self.groups = root / "proc", root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        text = f"MemTotal:  {16000 << 10} kB\nMemFree: 1 kB\nMemAvailable: {available << 10} kB\nHugePages_Total: 0\n"
        (self.proc / "meminfo").write_text(text)

    def group(self, path: str, limit: str, used: int, idle: int = 0) -> None:
        """Write a control group of version 2, in megabytes."""
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        most = limit if limit == "max" else str(int(limit) * MEGABYTE)
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used * MEGABYTE}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {idle * MEGABYTE}\nactive_file 77\n")

    def old_group(self, path: str, limit: int, used: int, idle: int) -> None:
        """Write one of version 1, in bytes."""
        folder = self.groups / "memory" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {idle}\n")

    def within(self, *lines: str) -> Spare | None:
        """Read it as a process in these groups."""
        (self.proc / "self/cgroup").write_text("".join(f"{line}\n" for line in lines))
        return spare(self.proc, self.groups)


def test_the_tightest_limit_around_us_counts(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.group("system.slice", "4000", used=3500)
    host.group("system.slice/gatewrit.service", "2048", used=1000)
    found = host.within("0::/system.slice/gatewrit.service")
    assert found == Spare(500 * MEGABYTE, "the 4,000 MB that system.slice is allowed (MemoryMax=)")


def test_files_that_nobody_needs_are_as_good_as_free(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.group("system.slice", "max", used=3500)
    host.group("system.slice/gatewrit.service", "2048", used=1900, idle=300)
    found = host.within("0::/system.slice/gatewrit.service")
    assert found == Spare(448 * MEGABYTE, "the 2,048 MB that gatewrit.service is allowed (MemoryMax=)")


def test_who_has_used_more_than_is_allowed_by_now_has_nothing_left(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.group("gatewrit.service", "100", used=200)
    found = host.within("0::/gatewrit.service")
    assert found is not None
    assert found.size == 0


def test_the_machine_bounds_who_has_no_limit(tmp_path: Path) -> None:
    host = Host(tmp_path, available=700)
    assert host.within("0::/user.slice") == Spare(700 * MEGABYTE, "the machine's 16,000 MB")


def test_version_1_of_control_groups_is_read_too(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.old_group("", 0x7FFFFFFFFFFFF000, 5 << 30, 0)
    host.old_group("system.slice/gatewrit.service", 2 << 30, 1 << 30, 1 << 29)
    found = host.within("9:pids:/init.scope", "4:cpu,memory:/system.slice/gatewrit.service", "0::/init.scope")
    assert found == Spare((2 << 30) - (1 << 29), "the 2,048 MB that gatewrit.service is allowed (MemoryMax=)")


def test_a_group_beside_ours_is_none_of_our_business(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.group("other", "1", used=1)
    found = host.within("0::/../other")
    assert found is not None
    assert found.bound == "the machine's 16,000 MB"


def test_where_the_system_does_not_tell_nothing_is_known(tmp_path: Path) -> None:
    assert spare(tmp_path / "proc", tmp_path / "cgroup") is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: lots\n")
    (tmp_path / "proc/self/cgroup").write_text("what is this\n")
    assert spare(tmp_path / "proc", tmp_path / "cgroup") is None


def test_what_is_lacking_is_said_and_some_is_held_back(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.group("gatewrit.service", "2048", used=1000)
    found = host.within("0::/gatewrit.service")
    assert found is not None
    assert found.lacks(found.size - RESERVE, "it") is None
    assert found.lacks(found.size - RESERVE + 1, "it") == (
        "it takes some 985 MB, which is more than what is left of the 2,048 MB that gatewrit.service is allowed "
        "(MemoryMax=)"
    )


def test_this_host_tells_how_much_is_left() -> None:
    found = spare()
    assert found is not None
    assert 0 < found.size < 1 << 50
