"""The engine as a container runs it, on the host's loopback and without a cluster. Five engine starts for the file:

1. A greedy completion, then SIGTERM amid a stream.
2. Its scheduler killed.
3. Requests that queue, under two orders: a worker's, and those of a prefill and a decode engine.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.support.models import tiny_model

pytestmark = [
    pytest.mark.engine,
    pytest.mark.full,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # torch and transformers warn at import
]
START_S = 400  # 45 s of CPU, several times that on a crowded machine
DRAIN_S = 60
EXIT_S = 30  # beyond the drain: the supervisor's own margin is 20 s
PATIENCE_S = 0.5  # that a request has when the TTFT objective is a second
STEP_S = 0.05  # a sleep in each step makes a stream long enough to be interrupted
ON_CPU = {"HEADRACE_ENGINE_DEVICE": "cpu", "SGLANG_USE_CPU_ENGINE": "1"}  # without a server that sets it
ENGINE = str(Path(sys.executable).with_name("headrace-engine"))


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


class Engine:
    """One `headrace-engine serve` on a free port, its output in a file."""

    def __init__(self, folder: Path, model: Path, **changes: Any) -> None:
        self.port, self.bootstrap_port = _free_ports()
        self.session: int | None = None  # the server's: known once it is ready
        folder.mkdir()
        self.log = folder / "engine.log"
        config = folder / "engine.json"
        config.write_text(json.dumps(self._config(model) | changes))
        self.queue = folder / "queue.json"
        with self.log.open("wb") as log:
            line, env = [ENGINE, "serve", "--config", str(config)], {**os.environ, "POD_IP": "127.0.0.1"}
            self.process = subprocess.Popen(line, stdout=log, stderr=log, env=env)

    def _config(self, model: Path) -> dict[str, Any]:
        return {
            "modelPath": str(model),
            "servedModelName": "tiny",
            "role": "worker",
            "device": "cpu",
            "host": "127.0.0.1",
            "port": self.port,
            "bootstrapPort": self.bootstrap_port,
            "transferBackend": "mooncake_tcp",
            "maxTotalTokens": 8192,
            "maxRunningRequests": 8,
            "slowDownSeconds": STEP_S,
            "terminationDrainSeconds": DRAIN_S,
        }

    def request(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The open response; its body may be a stream."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers), timeout=60
        )

    def json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        with self.request(path, body) as response:
            return json.load(response)

    def ready(self) -> bool:
        try:
            with self.request("/ready"):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_S
        while not self.ready():
            assert self.process.poll() is None, f"the engine ended while it started:\n{self.tail()}"
            assert time.monotonic() < end, f"the engine was not ready after {START_S} s:\n{self.tail()}"
            time.sleep(1)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.session = int(children.read_text())  # the supervisor has one child, which leads a session of its own

    def processes(self) -> dict[int, str]:
        """The server's living processes by pid, with their titles."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _parent, _group, session = stat.read_text().rpartition(")")[2].split()[:4]
                title = (stat.parent / "cmdline").read_text().replace("\0", " ")
            except OSError:  # it has ended in the meantime
                continue
            if int(session) == self.session and state != "Z":
                found[int(stat.parent.name)] = title
        return found

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def kill(self) -> None:
        """For a test that failed; nothing is left when it did not. SIGINT: the supervisor takes the server with it."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=DRAIN_S + EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def engine(model: Path, tmp_path: Path) -> Iterator[Engine]:
    started = Engine(tmp_path / "engine", model)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.kill()


def _most_probable(model: Path, prompt: list[int], output: list[int]) -> list[float]:
    """By how much transformers' highest logit exceeds that of the engine's token, at each position."""
    import torch  # noqa: PLC0415 - only this test needs it
    import transformers  # noqa: PLC0415

    reference = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    with torch.no_grad():
        logits = reference(torch.tensor([prompt + output])).logits[0, len(prompt) - 1 : -1].float()
    return [float(row.max() - row[token]) for row, token in zip(logits, output, strict=True)]


def test_it_completes_greedily_and_ends_a_stream_before_it_ends_itself(engine: Engine, model: Path) -> None:
    prompt = list(range(10, 90))
    body = {"input_ids": prompt, "sampling_params": {"temperature": 0, "max_new_tokens": 16, "ignore_eos": True}}
    answers = [engine.json("/generate", body) for _ in range(2)]
    output = answers[0]["output_ids"]
    assert len(output) == 16
    assert output == answers[1]["output_ids"]
    assert max(_most_probable(model, prompt, output)) < 0.1  # bfloat16 rounds logits of this size by some hundredths
    state = engine.json("/headrace/state")
    assert (state["role"], state["ready"], state["queued_tokens"], state["running_total"]) == ("worker", True, 0, 0)
    assert state["totals"]["arrivals"] == state["totals"]["finished"] == 2
    assert (state["totals"]["prompt_tokens"], state["totals"]["output_tokens"]) == (160, 32)
    assert state["totals"]["cached_tokens"] == answers[1]["meta_info"]["cached_tokens"] > 0

    tokens = 100
    stream = {
        "model": "tiny", "prompt": "one prompt waits", "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    with engine.request("/v1/completions", stream) as response:
        first = response.readline()
        assert first.startswith(b"data: {")
        engine.process.send_signal(signal.SIGTERM)
        events = [line.removeprefix(b"data: ").strip() for line in response if line.strip()]
    assert events[-1] == b"[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == tokens
    assert engine.process.wait(timeout=DRAIN_S + EXIT_S) == 0, engine.tail()
    assert engine.processes() == {}


def test_a_killed_scheduler_is_a_failure_that_the_last_line_tells(engine: Engine) -> None:
    schedulers = [pid for pid, title in engine.processes().items() if title.startswith("sglang::scheduler")]
    assert len(schedulers) == 1, engine.processes()
    os.kill(schedulers[0], signal.SIGKILL)
    status = engine.process.wait(timeout=60)
    assert status != 0
    last = engine.log.read_text(errors="replace").splitlines()[-1]
    assert re.fullmatch(
        r"headrace-engine: error: the server ended by itself with status -?\d+; see the log above", last
    )
    assert engine.processes() == {}


Ask = Callable[[list[int]], object]


def _body(prompt: list[int]) -> dict[str, Any]:
    return {"input_ids": prompt, "sampling_params": {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True}}


def _order_taken(ask: Ask) -> list[str]:
    """In which order engines that take one at a time end five old requests and a young one, sent when they wait."""
    done: list[str] = []

    def ask_as(name: str, first_token: int) -> None:
        ask(list(range(first_token, first_token + 20)))
        done.append(name)

    asked = [threading.Thread(target=ask_as, args=(f"old {i}", 10 + 30 * i)) for i in range(5)]
    for thread in asked:
        thread.start()
        time.sleep(0.05)  # so that they arrive in this order
    began = time.monotonic()
    while not done or time.monotonic() - began < PATIENCE_S:
        time.sleep(0.02)
    assert len(done) <= 3, "too slow a start of the young one for anybody to wait"
    asked.append(threading.Thread(target=ask_as, args=("young", 10 + 30 * 5)))
    asked[-1].start()
    for thread in asked:
        thread.join(timeout=120)
    return done


def _check_that_the_order_follows_the_file(engines: list[Engine], ttft_s: float, ask: Ask) -> None:
    def tell(content: dict[str, Any]) -> None:
        for engine in engines:
            engine.queue.write_text(json.dumps(content))
        time.sleep(1.5)  # they look once a second

    old = [f"old {i}" for i in range(5)]
    assert _order_taken(ask) == [*old, "young"]  # without a file
    tell({"ttftSeconds": ttft_s})
    late_last = _order_taken(ask)
    assert late_last.index("young") < late_last.index("old 3")
    assert [name for name in late_last if name != "young"] == old
    tell({"order": "Arrival", "ttftSeconds": ttft_s})
    assert _order_taken(ask) == [*old, "young"]
    tell({"ttftSeconds": -1})  # unusable: the last order stays
    assert _order_taken(ask) == [*old, "young"]
    assert all("queue.json can't be used" in engine.log.read_text() for engine in engines)


def test_a_worker_takes_late_requests_last_and_follows_the_file(model: Path, tmp_path: Path) -> None:
    engine = Engine(tmp_path / "engine", model, maxRunningRequests=1)
    try:
        engine.wait_until_ready()
        _check_that_the_order_follows_the_file(
            [engine], 2 * PATIENCE_S, lambda prompt: engine.json("/generate", _body(prompt))
        )
    finally:
        engine.kill()


def test_a_decode_engine_sets_kv_aside_for_late_requests_last(model: Path, tmp_path: Path) -> None:
    """Its KV holds one request, with the 512 tokens that SGLang keeps free for the output of each."""
    prefill = Engine(tmp_path / "prefill", model, role="prefill")
    decode = Engine(tmp_path / "decode", model, role="decode", maxTotalTokens=700)

    def ask(prompt: list[int]) -> None:
        meet = {
            "bootstrap_host": "127.0.0.1",
            "bootstrap_port": prefill.bootstrap_port,
            "bootstrap_room": random.getrandbits(60),
        }
        computes = threading.Thread(target=prefill.json, args=("/generate", _body(prompt) | meet))
        computes.start()
        decode.json("/generate", _body(prompt) | meet)
        computes.join()

    try:
        for engine in (prefill, decode):
            engine.wait_until_ready()
        _check_that_the_order_follows_the_file([prefill, decode], 4 * PATIENCE_S, ask)
    finally:
        for engine in (prefill, decode):
            engine.kill()


STAMPED = """
import pickle
from headrace_engine import cpu_compat
cpu_compat.install()
from sglang.srt.plugins import load_plugins
load_plugins()
from headrace_engine import plugin
from headrace_engine_config.late_last import Stamp
from sglang.srt.managers.io_struct import unwrap_from_pickle, wrap_as_pickle
from sglang.srt.observability import req_time_stats
def send(stats):
    return unwrap_from_pickle(pickle.loads(pickle.dumps(wrap_as_pickle(stats))))
assert plugin.unhooked() == [], plugin.unhooked()
accepted = req_time_stats.APIServerReqTimeStats()
accepted.headrace_stamp = Stamp(12345.678, 0.1)
spread = req_time_stats.DPControllerReqTimeStats.new_from_obj(send(accepted))
ordered = req_time_stats.SchedulerReqTimeStats.new_from_obj(send(send(spread)))  # to rank 0, and on to the others
assert ordered.headrace_stamp == Stamp(12345.678, 0.1)
ordered.has_timing_data = True
assert send(ordered).headrace_stamp is None  # what goes back with each token stays small
plain = send(req_time_stats.APIServerReqTimeStats())  # a health check's
assert req_time_stats.SchedulerReqTimeStats.new_from_obj(plain).headrace_stamp is None
"""


@pytest.mark.parametrize(("role", "pickled"), [("prefill", "1"), ("decode", "0")])
def test_a_stamp_reaches_each_rank_unchanged_by_way_of_sglangs_own_objects(
    tmp_path: Path, role: str, pickled: str
) -> None:
    told = {"HEADRACE_ENGINE_ROLE": role, "HEADRACE_ENGINE_QUEUE": str(tmp_path / "queue.json")}
    env = {**os.environ, **told, **ON_CPU, "SGLANG_USE_PICKLE_IPC": pickled}
    run = subprocess.run([sys.executable, "-c", STAMPED], env=env, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


HOOKS_GONE = """
import sys
from headrace_engine import server
from sglang.srt.managers.schedule_policy import SchedulePolicy
del SchedulePolicy.calc_priority
server.main(sys.argv[1])
"""


def test_a_method_that_is_gone_from_sglang_ends_the_start_with_its_name(tmp_path: Path) -> None:
    config = tmp_path / "engine.json"
    config.write_text(json.dumps({"modelPath": "any", "servedModelName": "any", "role": "worker", "device": "cpu"}))
    told = {"HEADRACE_ENGINE_ROLE": "worker", "HEADRACE_ENGINE_QUEUE": str(tmp_path / "queue.json")}
    run = subprocess.run(
        [sys.executable, "-c", HOOKS_GONE, str(config)],
        env={**os.environ, **told, **ON_CPU},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    gone = "sglang.srt.managers.schedule_policy.SchedulePolicy.calc_priority"
    assert run.stderr.splitlines()[-1] == f"headrace-engine: error: this SGLang has no {gone}; use 0.5.23"


def test_a_model_directory_without_config_json_ends_the_start_at_once(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    engine = Engine(tmp_path / "engine", model)
    assert engine.process.wait(timeout=60) == 78
    sentence = f"modelPath: {model} has no config.json; it must be a model directory as a hub has it"
    assert engine.log.read_text() == f"headrace-engine: error: {sentence}\n"
