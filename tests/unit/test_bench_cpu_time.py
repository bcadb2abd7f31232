"""Who had the cores: each process's time goes to the nearest that was named, what is left to others."""

from __future__ import annotations

import os
from pathlib import Path

from millpond_cli.bench import cpu_time
from millpond_cli.bench.cpu_time import CpuTime

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def machine(proc: Path, *processes: tuple[int, int, str, float], busy_s: float) -> Path:
    """A /proc. processes: id, parent, name, seconds of CPU."""
    proc.mkdir(parents=True, exist_ok=True)
    (proc / "stat").write_text(f"cpu  {int(busy_s * TICKS_PER_S)} 0 0 999 99 0 0 0 0 0\ncpu0 0 0 0 0\n")
    for process, parent, name, seconds in processes:
        (proc / str(process)).mkdir(exist_ok=True)
        ticks = int(seconds * TICKS_PER_S)
        fields = f"{process} ({name}) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0 20 0"
        (proc / str(process) / "stat").write_text(fields)
    return proc


def test_a_process_counts_to_the_nearest_of_its_ancestors_that_is_named(tmp_path: Path) -> None:
    proc = machine(
        tmp_path,
        (1, 0, "init", 50),
        (10, 1, "bench", 1),
        (11, 10, "triton", 2),
        (12, 11, "stub (of a model) S 1", 40),
        (13, 10, "nameless", 3),
        (20, 1, "somebody", 7),
        busy_s=200,
    )
    read = cpu_time.read({10: "bench", 11: "triton"}, proc)
    assert read is not None
    assert read.seconds == {"bench": 4, "triton": 42}
    assert read.machine_s == 200


def test_cores_are_seconds_of_cpu_by_seconds_and_what_nobody_is_named_for_is_others() -> None:
    before = CpuTime(100, {"bench": 1, "triton": 10}, 500)
    after = CpuTime(110, {"bench": 2, "triton": 25, "late": 1}, 520)
    assert cpu_time.cores(before, after) == {"bench": 0.1, "triton": 1.5, "late": 0.1, "others": 0.3}


def test_where_nothing_is_known_nothing_is_said(tmp_path: Path) -> None:
    assert cpu_time.read({1: "init"}, tmp_path / "none") is None
    assert cpu_time.cores(None, CpuTime(1, {}, 1)) == {}
