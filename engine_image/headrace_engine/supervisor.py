"""The container's first process: starts the server, hands it the signals, and tells the kubelet how it really ended.

SGLang as process 1 ends with status 0 when its scheduler dies, and ignores SIGTERM until it is up. Here an end that
nobody asked for is never a success, nor is one that cut requests; SIGTERM before readiness ends the start at once.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from headrace_engine.cpu_compat import DEVICE_VARIABLE
from headrace_engine.drain import CUT_SHORT
from headrace_engine.plugin import DRAIN_VARIABLE, ROLE_VARIABLE
from headrace_engine.queue_order import QUEUE_VARIABLE
from headrace_engine_config import EngineConfig

FAILED = 70  # EX_SOFTWARE: the server ended though nobody asked it to, or died while it drained
# Beyond the drain's own deadline: schedulers release memory, and SGLang waits for them.
EXIT_MARGIN_S = 20


def environment(config: EngineConfig, config_path: str) -> dict[str, str]:
    """What the server's processes inherit."""
    env = {
        **os.environ,
        ROLE_VARIABLE: config.role,
        DRAIN_VARIABLE: str(config.termination_drain_seconds),
        DEVICE_VARIABLE: config.device,
        "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",  # a liveness probe must not cost a forward pass
    }
    if config.device == "cpu":
        env |= {"SGLANG_USE_CPU_ENGINE": "1", "MOONCAKE_PROTOCOL": "tcp", "MC_FORCE_TCP": "1"}
        env.setdefault("OMP_NUM_THREADS", "1")
    if config.parallelism.pipeline == 1:  # the stages of a pipeline agree on their queues by names, in their order
        env[QUEUE_VARIABLE] = str(Path(config_path).absolute().with_name("queue.json"))
    if "POD_IP" in os.environ:
        env["SGLANG_HOST_IP"] = os.environ["POD_IP"]  # what decode engines are told to fetch KV from
    if Path(config.model_path).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    return env


class Supervisor:
    """One server process and its children."""

    def __init__(self, config: EngineConfig, config_path: str) -> None:
        self._drain_s = config.termination_drain_seconds
        self._asked_to_end = False
        self._killed = False
        self._server = subprocess.Popen(
            [sys.executable, "-m", "headrace_engine.server", config_path],
            env=environment(config, config_path),
            start_new_session=True,
        )

    def run(self) -> int:
        """Wait for the server's end; the status for the kubelet."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._forward)
        status = self._wait()
        self._kill_group()
        if self._killed:
            return _fail(f"the server did not end within {self._drain_s:g} s of SIGTERM and was killed", CUT_SHORT)
        if self._asked_to_end and status == CUT_SHORT:
            return _fail(f"requests were still running {self._drain_s:g} s after SIGTERM and were cut", CUT_SHORT)
        if self._asked_to_end and status in {0, -signal.SIGTERM}:  # the latter: it was not up yet
            return 0
        return _fail(f"the server ended by itself with status {status}; see the log above", status)

    def _wait(self) -> int:
        deadline = None
        while True:
            try:
                return self._server.wait(timeout=1)
            except subprocess.TimeoutExpired:
                now = time.monotonic()  # a supervisor lives in real time
                if self._asked_to_end and deadline is None:
                    deadline = now + self._drain_s + EXIT_MARGIN_S
                if deadline is not None and now > deadline:
                    self._killed = True
                    self._kill_group()

    def _forward(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_end = True
        self._server.terminate()

    def _kill_group(self) -> None:
        """Nothing of the server stays: its schedulers are in its session."""
        try:
            os.killpg(self._server.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _fail(sentence: str, status: int) -> int:
    """Say it in the last line, which the kubelet shows; the exit status, never one of success."""
    print(f"headrace-engine: error: {sentence}", file=sys.stderr, flush=True)
    return status if status > 0 else FAILED
