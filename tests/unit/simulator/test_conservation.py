"""Whatever the load, nothing is lost, nothing is left over, and no engine stops for good."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.api.roles import Role
from headrace.simulator.decode_engine import DecodeEngine
from headrace.simulator.fleet import Bounds, Fleet, FleetSpec
from headrace.simulator.pool import Lifecycle
from headrace.simulator.prefill_engine import PrefillEngine
from headrace.simulator.profiles import profile
from headrace.simulator.request import Arrival
from headrace.simulator.static_policy import StaticPolicy
from headrace.simulator.unified_engine import UnifiedEngine

LLAMA = profile("llama-8b-h100")

REQUESTS = st.lists(
    st.tuples(
        st.floats(0.0, 20.0),
        st.integers(1, 6000),
        st.integers(1, 1500),
        st.one_of(st.none(), st.lists(st.integers(0, 12), min_size=1, max_size=12).map(tuple)),
    ),
    min_size=1,
    max_size=60,
)


def run(roles: tuple[Role, ...], rows: list[tuple[float, int, int, tuple[int, ...] | None]], capacity: int) -> Fleet:
    load = [Arrival(*row) for row in sorted(rows, key=lambda row: row[0])]
    counts = dict.fromkeys(roles, 2)
    spec = FleetSpec(
        times=LLAMA.times,
        shape=replace(LLAMA.shape, kv_capacity_tokens=capacity, chunk_tokens=1024, max_running=16),
        bounds={role: Bounds(1, 4, 2) for role in roles},
        lifecycle=Lifecycle(start_s=lambda: 5.0),
    )
    fleet = Fleet(spec, StaticPolicy(counts, 5.0), np.random.default_rng(1), horizon_s=21.0)
    result = fleet.run(load)
    assert result.unfinished == 0
    assert len(result.records.ttft) + result.rejected == len(load)
    assert all(0.0 < ttft < 600.0 for ttft in result.records.ttft)
    assert all(tpot >= 0.0 for tpot in result.records.tpot)
    return fleet


@pytest.mark.parametrize("topology", ["disaggregated", "aggregated"])
@settings(max_examples=60, deadline=None)
@given(rows=REQUESTS, capacity=st.sampled_from([8_000, 12_000, 400_000]))
@example(  # the last one's KV arrives in the step in which the second one ends
    rows=[(0.0, 1, 1, None), (0.0, 1, 352, None), (2.0078125, 1025, 40, None), (2.2890625, 1, 1, None)], capacity=8_000
)
def test_everything_that_arrives_finishes_and_every_counter_returns_to_zero(
    topology: str, rows: list[tuple[float, int, int, tuple[int, ...] | None]], capacity: int
) -> None:
    fleet = run(LLAMA.roles(topology), rows, capacity)
    for pool in fleet.pools.values():
        for engine in pool.serving:
            assert engine.inflight == 0
            assert engine.queued_tokens() == 0
            if isinstance(engine, DecodeEngine):
                assert (engine.batch.kv, engine.batch.due, engine.held, engine.transferring) == (0, 0, 0, 0)
            elif isinstance(engine, UnifiedEngine):
                assert (engine.batch.kv, engine.batch.due, len(engine.queue)) == (0, 0, 0)
            elif isinstance(engine, PrefillEngine):
                assert (engine.exporting, engine.exporting_tokens, engine.hosting) == (0, 0, False)
                assert (engine.bootstrapping, engine.bootstrapping_tokens) == (0, 0)
