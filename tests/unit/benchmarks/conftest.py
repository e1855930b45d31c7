from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.benchmarks.policies.common import Facts
from headrace.api.roles import Role
from headrace.autoscaler.signals import (
    ArrivalBin,
    EngineLoad,
    EngineState,
    FinishedRequest,
    PodPhase,
    PodSample,
    PoolState,
    Signals,
)

NOW = 1_700_000_000.0


@pytest.fixture
def facts() -> Facts:
    return Facts(
        ttft_s=2.0,
        tpot_s=0.05,
        prefill_tokens_per_s=40_000.0,
        step_base_s=0.0064,
        step_per_request_s=11.4e-6,
        step_per_kv_token_s=42.7e-9,
        kv_tokens=400_000,
        max_running=2048,
        context_length=16_384,
        min_replicas=dict.fromkeys(Role, 1),
        max_replicas=dict.fromkeys(Role, 32),
    )


@pytest.fixture
def signals() -> Callable[..., Signals]:
    """Signals of `prefill` and `decode` replicas that all carry the same load."""

    def make(
        at: float = NOW,
        prefill: int = 4,
        decode: int = 2,
        *,
        starting: int = 0,
        waiting: int = 0,
        kv: float = 0.0,
        running: int = 0,
        queued_tokens: int = 0,
        rps: float = 0.0,
        prompt: int = 1000,
        output: int = 200,
    ) -> Signals:
        pods = []
        for role, count in ((Role.PREFILL, prefill), (Role.DECODE, decode)):
            for i in range(count):
                share = rps / count
                bins = tuple(
                    ArrivalBin(int(at) - s, 3, round(share), round(share) * prompt, 0) for s in range(1, 121) if share
                )
                done = tuple(FinishedRequest(3, prompt, output) for _ in range(8))
                load = EngineLoad(
                    running_requests=running, waiting_requests=waiting, used_tokens=int(kv * 400_000),
                    max_total_tokens=400_000, max_running_requests=2048,
                    waiting_uncached_tokens=queued_tokens if role is Role.PREFILL else 0,
                )  # fmt: skip
                state = EngineState(at, NOW - 9999.0, 0, arrivals=bins, finished=done)
                pods.append(
                    PodSample(
                        f"{role}-{i}",
                        role,
                        PodPhase.SERVING,
                        NOW - 9999.0 + i,
                        NOW - 9900.0,
                        at,
                        load=load,
                        state=state,
                    )
                )
        pods += [PodSample(f"new-{i}", Role.PREFILL, PodPhase.STARTING, at - 1.0) for i in range(starting)]
        pools = {Role.PREFILL: PoolState(prefill + starting), Role.DECODE: PoolState(decode)}
        return Signals("test/service", at, tuple(pods), pools)

    return make


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """A directory with one trace of two minutes: 2 long prompts a second, then 3."""
    rng = np.random.default_rng(0)
    t = np.sort(np.concatenate([rng.uniform(0, 120, 240), rng.uniform(60, 120, 60)]))
    n = len(t)
    table = pa.table(
        {
            "t": t,
            "input_tokens": rng.integers(6000, 12_000, n).astype(np.int32),
            "output_tokens": rng.integers(20, 200, n).astype(np.int32),
        }
    )
    folder = tmp_path / "traces"
    folder.mkdir()
    pq.write_table(table, folder / "rising.parquet")
    return folder
