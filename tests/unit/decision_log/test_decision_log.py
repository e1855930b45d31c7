"""The decision log: bounded files that each can be replayed, and a loop that never waits for a disk."""

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import pytest
import yaml
from headrace_fakes.fluid_fleet import FluidFleet
from structlog.testing import capture_logs

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.replay import Entry, Tick, compare, from_line, replay, to_line
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B
from headrace.loops import decision_log
from headrace.loops.decision_log import DecisionLog, Segments, files_of
from headrace.settings import Settings

MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
LIMITS = Limits(Objective(), {Role.PREFILL: RoleLimits(1, 4), Role.DECODE: RoleLimits(1, 4)})


def ticks(count: int, service: str = "default/chat") -> Iterator[Tick]:
    fleet = FluidFleet(MODEL, {Role.PREFILL: 1, Role.DECODE: 1}, rate=lambda _: 10.0)
    memory, model = initial_memory(), MODEL
    for _ in range(count):
        for _ in range(5):
            fleet.step()
        signals = replace(fleet.signals(), service=service)
        made = plan(signals, model, LIMITS, memory, signals.at)
        yield Tick(signals, LIMITS, memory, model, made)
        memory, model = made.memory, made.model


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line]


def entries(folder: Path) -> list[Entry]:
    return [from_line(line) for path in files_of(folder) for line in lines(path)]


def write(folder: Path, made: Iterator[Tick], total_bytes: int = 2**24) -> None:
    log = DecisionLog(folder, total_bytes)
    for tick in made:
        log.put(tick)
    log.close()


def test_what_was_decided_is_replayed_from_the_files(tmp_path: Path) -> None:
    write(tmp_path, ticks(30))
    steps = list(replay(entries(tmp_path)))
    assert len(steps) == 30
    assert all(step.decision is not None and compare(step) is None for step in steps)


def test_only_the_first_line_of_a_file_carries_the_memory(tmp_path: Path) -> None:
    write(tmp_path, ticks(10))
    (path,) = files_of(tmp_path)
    assert ["memory" in line for line in lines(path)] == [True] + [False] * 9


def test_the_folder_is_bounded_and_every_file_can_be_replayed_alone(tmp_path: Path) -> None:
    # One service is always logged, however little the log holds.
    total = 8 * 60_000
    write(tmp_path, ticks(240), total)
    files = files_of(tmp_path)
    assert len(files) == decision_log.FILES
    longest = max(len(line) for path in files for line in path.read_bytes().splitlines())
    assert sum(path.stat().st_size for path in files) <= total + decision_log.FILES * (longest + 1)
    assert int(files[0].stem.removeprefix("decisions-")) > 1, "the oldest are gone"
    for path in files:
        steps = list(replay(map(from_line, lines(path))))
        assert all(step.decision is not None and compare(step) is None for step in steps)
    assert lines(files[-1])[-1]["at"] == 1_000_000.0 + 240 * 5


def test_a_restart_goes_on_in_the_same_file_with_the_memory_anew(tmp_path: Path) -> None:
    write(tmp_path, ticks(5))
    (path,) = files_of(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"version":1,"service":"default/chat","at":')  # the process was killed while it wrote
    write(tmp_path, ticks(5))
    assert files_of(tmp_path) == [path]
    found = [line for line in path.read_bytes().splitlines() if line]
    assert len(found) == 11
    assert b'"memory"' in found[6]


def test_services_share_the_files_and_each_can_be_replayed(tmp_path: Path) -> None:
    pairs = zip(ticks(20), ticks(20, "default/other"), strict=True)
    write(tmp_path, (tick for pair in pairs for tick in pair))
    steps = list(replay(entries(tmp_path)))
    assert len(steps) == 40
    assert all(step.decision is not None and compare(step) is None for step in steps)


def test_a_full_disk_is_said_once_and_the_log_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Segments.append, []

    def full(self: Segments, line: bytes) -> None:
        calls.append(line)
        if 3 <= len(calls) <= 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, line)

    monkeypatch.setattr(Segments, "append", full)
    with capture_logs() as logs:
        write(tmp_path, ticks(15))
    assert [entry["event"] for entry in logs] == [
        "decision log can't be written, decisions go on",
        "decision log is written again",
    ]
    assert "No space left" in logs[0]["error"]
    steps = list(replay(entries(tmp_path)))
    assert 5 < len(steps) < 15
    assert all(step.decision is not None and compare(step) is None for step in steps)


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with capture_logs() as logs:
        write(tmp_path / "file" / "log", ticks(5))
    assert len(logs) == 1


def test_ticks_beyond_the_queue_are_dropped_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, go = Event(), Event()
    real = Segments.append

    def slow(self: Segments, line: bytes) -> None:
        stuck.set()
        assert go.wait(60)
        real(self, line)

    monkeypatch.setattr(Segments, "append", slow)
    made = list(ticks(20))
    log = DecisionLog(tmp_path, 2**24, waiting=4)
    with capture_logs() as logs:
        log.put(made[0])
        assert stuck.wait(60)
        for tick in made[1:]:
            log.put(tick)
        assert len([entry for entry in logs if "falls behind" in entry["event"]]) == 1
        go.set()
        log._queue.put(None)
        assert log._thread is not None
        log._thread.join(60)
    found = [line["at"] for line in lines(files_of(tmp_path)[0])]
    assert found == [tick.signals.at for tick in made[:5]]


def test_services_are_left_out_where_the_log_would_not_hold_an_hour(tmp_path: Path) -> None:
    size = len(orjson.dumps(to_line(list(ticks(30))[-1], begin=False)))
    hour = round(2.5 * size * decision_log.HOLDS_S / LIMITS.tick_s)
    runs = zip(*(ticks(30, f"default/{name}") for name in "abcde"), strict=True)
    with capture_logs() as logs:
        write(tmp_path, (tick for together in runs for tick in together), hour)
    count = Counter(entry.signals.service for entry in entries(tmp_path))
    assert count["default/a"] == count["default/b"] == 30, "those that are in stay in, whole"
    assert count["default/e"] == 0
    assert len(logs) == 1
    assert "HEADRACE_DECISION_LOG_BYTES" in logs[0]["event"]


def test_nothing_is_opened_before_the_first_tick(tmp_path: Path) -> None:
    DecisionLog(tmp_path / "log", 2**24).close()
    assert not (tmp_path / "log").exists()


def test_the_operators_pod_has_room_for_its_log() -> None:
    base = Path(__file__).resolve().parents[3] / "charts/operator/deployment.yaml"
    pod = yaml.safe_load(base.read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    folder = next(item["value"] for item in container["env"] if item["name"] == "HEADRACE_DECISION_LOG_DIR")
    volume = next(mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == folder)
    room = next(item["emptyDir"]["sizeLimit"] for item in pod["volumes"] if item["name"] == volume)
    longest_line = 2**20  # 64 engines, each full of requests
    assert int(room.removesuffix("Mi")) * 2**20 >= Settings().decision_log_bytes + decision_log.FILES * longest_line
