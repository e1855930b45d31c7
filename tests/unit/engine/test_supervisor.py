"""The container's first process, with a server of the test's own in the place of SGLang's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_engine.drain import CUT_SHORT
from headrace_engine.supervisor import FAILED, environment

from .conftest import MakeConfig

# The server module is found by the child alone: the supervisor has loaded its own package by then.
SUPERVISE = """
import os, sys
from headrace_engine import supervisor
from headrace_engine_config import load_config
folder, config, supervisor.EXIT_MARGIN_S = sys.argv[1], sys.argv[2], 0
os.environ["PYTHONPATH"] = folder
sys.exit(supervisor.Supervisor(load_config(open(config).read()), config).run())
"""
# `up` tells the test that the server runs.
PRELUDE = "import os, signal, subprocess, sys, time\n"
UP = "print('up', flush=True)\n"

Supervise = Callable[..., subprocess.Popen[str]]
CONFIG = "/etc/headrace/engine.json"


@pytest.fixture
def supervise(tmp_path: Path, config: MakeConfig) -> Iterator[Supervise]:
    """Starts a supervisor over a server with this source; returns once the server has printed `up`."""
    started: list[subprocess.Popen[str]] = []

    def start(server: str, drain_s: float = 30) -> subprocess.Popen[str]:
        package = tmp_path / "headrace_engine"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "server.py").write_text(PRELUDE + server)
        file = tmp_path / "engine.json"
        file.write_text(config(termination_drain_seconds=drain_s).model_dump_json(by_alias=True))
        line = [sys.executable, "-c", SUPERVISE, str(tmp_path), str(file)]
        started.append(subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "up\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=30)
    return process.returncode, said


def _gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("end", "status", "reported"),
    [
        ("sys.exit(0)", FAILED, "0"),  # SGLang does that when its scheduler dies
        ("sys.exit(3)", 3, "3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", FAILED, "-9"),
    ],
)
def test_an_end_that_nobody_asked_for_is_a_failure_whose_last_line_says_so(
    supervise: Supervise, end: str, status: int, reported: str
) -> None:
    code, said = _end(supervise(UP + "print('cause', file=sys.stderr, flush=True)\n" + end))
    assert code == status
    sentence = f"headrace-engine: error: the server ended by itself with status {reported}; see the log above"
    assert said.splitlines() == ["cause", sentence]


def test_sigterm_before_the_server_handles_it_ends_the_start_at_once(supervise: Supervise) -> None:
    process = supervise(UP + "time.sleep(100)")
    process.send_signal(signal.SIGTERM)
    assert _end(process) == (0, "")


def test_sigterm_waits_for_a_server_that_drains(supervise: Supervise) -> None:
    drains = """
def drain(*_):
    time.sleep(1.5)  # longer than one look of the supervisor
    print("drained", file=sys.stderr, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
"""
    process = supervise(drains + UP + "time.sleep(100)")
    process.send_signal(signal.SIGTERM)
    assert _end(process) == (0, "drained\n")


@pytest.mark.parametrize(
    ("end", "status", "sentence"),
    [
        (f"os._exit({CUT_SHORT})", CUT_SHORT, "requests were still running 30 s after SIGTERM and were cut"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            FAILED,
            "the server ended by itself with status -9; see the log above",
        ),
    ],
)
def test_a_drain_that_lost_requests_is_a_failure(supervise: Supervise, end: str, status: int, sentence: str) -> None:
    process = supervise(f"signal.signal(signal.SIGTERM, lambda *_: {end})\n" + UP + "time.sleep(100)")
    process.send_signal(signal.SIGTERM)
    assert _end(process) == (status, f"headrace-engine: error: {sentence}\n")


def test_a_server_that_does_not_end_is_killed_after_its_deadline(supervise: Supervise) -> None:
    process = supervise("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + UP + "time.sleep(100)", drain_s=0.5)
    process.send_signal(signal.SIGTERM)
    sentence = "the server did not end within 0.5 s of SIGTERM and was killed"
    assert _end(process) == (CUT_SHORT, f"headrace-engine: error: {sentence}\n")


@pytest.mark.parametrize("asked", [True, False])
def test_nothing_of_the_server_stays(supervise: Supervise, tmp_path: Path, asked: bool) -> None:
    scheduler = tmp_path / "pid"
    with_child = f"""
child = subprocess.Popen(["sleep", "100"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open({str(scheduler)!r}, "w").write(str(child.pid))
"""
    process = supervise(with_child + UP + ("time.sleep(100)" if asked else "sys.exit(0)"))
    if asked:
        process.send_signal(signal.SIGTERM)
    _end(process)
    pid = int(scheduler.read_text())
    deadline = time.monotonic() + 10  # SIGKILL is asynchronous  # noqa: TID251
    while not _gone(pid) and time.monotonic() < deadline:  # noqa: TID251
        time.sleep(0.02)
    assert _gone(pid)


def test_the_server_learns_its_role_and_its_bound(config: MakeConfig) -> None:
    env = environment(config(role="prefill", termination_drain_seconds=45), CONFIG)
    assert env["HEADRACE_ENGINE_ROLE"] == "prefill"
    assert env["HEADRACE_ENGINE_DRAIN_SECONDS"] == "45.0"
    assert env["SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"] == "0"


def test_the_server_learns_where_its_queue_file_is_unless_it_is_a_pipeline(config: MakeConfig) -> None:
    assert environment(config(), CONFIG)["HEADRACE_ENGINE_QUEUE"] == "/etc/headrace/queue.json"
    assert "HEADRACE_ENGINE_QUEUE" not in environment(config(parallelism={"pipeline": 2}), CONFIG)


def test_only_a_cpu_engine_gets_the_cpu_settings(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = {"SGLANG_USE_CPU_ENGINE", "MOONCAKE_PROTOCOL", "MC_FORCE_TCP", "OMP_NUM_THREADS"}
    assert names <= environment(config(device="cpu"), CONFIG).keys()
    assert not (environment(config(device="cuda"), CONFIG).keys() - os.environ.keys()) & names


def test_a_thread_count_that_is_set_is_kept(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert environment(config(), CONFIG)["OMP_NUM_THREADS"] == "8"


def test_decode_engines_are_told_the_pods_address(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "10.1.2.3")
    assert environment(config(), CONFIG)["SGLANG_HOST_IP"] == "10.1.2.3"


def test_a_model_on_disk_asks_no_hub(config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert environment(config(model_path=str(tmp_path)), CONFIG)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(config(model_path="Qwen/Qwen3-8B"), CONFIG)
