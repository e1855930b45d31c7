"""The engine's own metrics as SGLang exposes them: out of the files of prometheus_client's multi-process mode."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from headrace_engine.plugin import LEDGER
from headrace_engine.routes import add_metrics

LEDGER.arrived("before", 50, 99.0)  # accepted before the metrics were there
add_metrics(started_at=0.0)
LEDGER.arrived("one", 100, 100.0)
LEDGER.arrived("two", 200, 101.0)
LEDGER.progressed("one", 1, 64, None)
LEDGER.finished("one", 7, 102.0)
LEDGER.aborted("two")
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_counters_follow_the_ledger_and_the_gauge_its_queue(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "HEADRACE_ENGINE_ROLE": "prefill"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    lines = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if line and not line.startswith("#"))
    assert {name: float(value) for name, value in lines.items() if not name.endswith("startup_seconds")} == {
        "headrace_engine_queued_tokens": 50.0,
        "headrace_engine_arrivals_total": 3.0,
        "headrace_engine_prompt_tokens_total": 350.0,
        "headrace_engine_cached_tokens_total": 64.0,
        "headrace_engine_finished_total": 1.0,
        "headrace_engine_output_tokens_total": 7.0,
    }
