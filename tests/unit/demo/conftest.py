"""A made-up run: growth and return of both pools under three phases. It is the tests' own input and nothing else."""

from datetime import UTC, datetime
from random import Random

import pytest

from e2e.demo.record import DecisionRow, EngineSignals, Objective, PhaseSpan, RoleCount, RunRecord, Sample, Stage
from e2e.load.results import Outcome, Result

START = 1_790_000_000.0
PHASES = (("warm", 0, 60, 1.0), ("high", 60, 240, 5.0), ("low", 240, 420, 1.0))
# (role, target seen, serving, drain seen, one again), in seconds after the start
STEPS = {"prefill": (80, 150, 330, 345), "decode": (75, 140, 320, 350)}


def count(role: str, after_s: float) -> RoleCount:
    wanted, served, drained, gone = STEPS[role]
    if after_s < wanted or after_s >= gone:
        return RoleCount(1, 0, 0)
    if after_s < served:
        return RoleCount(1, 1, 0)
    return RoleCount(2, 0, 0) if after_s < drained else RoleCount(1, 0, 1)


def decision(role: str, after_s: float, current: int, target: int) -> DecisionRow:
    at = datetime.fromtimestamp(START + after_s, UTC).isoformat().replace("+00:00", "Z")
    up = target > current
    return DecisionRow(
        at,
        role,
        current,
        target,
        "ScaleUp" if up else "ScaleDown",
        "PrefillBacklog" if role == "prefill" else "DecodeKV",
        "1.7 replicas needed: 3100 queued tokens <over> 900 tokens/s" if up else "one replica is enough for 95 %",
        () if up else ("window: the lower need has held for 60 s",),
    )


def results() -> tuple[list[float], list[Result]]:
    rng = Random(7)  # noqa: S311 - made-up latencies
    sent: list[float] = []
    done: list[Result] = []
    for name, start, end, rate in PHASES:
        at = START + start
        while (at := at + rng.expovariate(rate)) < START + end:
            slow = 2.5 if name == "high" and at < START + 150 else 1.0
            ttft, tpot = rng.uniform(0.3, 0.8) * slow, rng.uniform(0.08, 0.12) * slow
            first = at + ttft
            sent.append(at)
            done.append(
                Result(
                    len(sent),
                    name,
                    at,
                    at,
                    first + 31 * tpot,
                    Outcome.OK,
                    prompt_tokens=128,
                    asked_tokens=32,
                    output_tokens=32,
                    first_token_at=first,
                    last_token_at=first + 31 * tpot,
                    gaps_s=(tpot,) * 31,
                )
            )
    return sent, done


@pytest.fixture
def record() -> RunRecord:
    sent, done = results()
    samples = [
        Sample(
            START + after_s,
            next((name for name, start, end, _ in PHASES if start <= after_s < end), "low"),
            {role: count(role, after_s) for role in STEPS},
            {
                role: EngineSignals(4.0, 6.0 if 60 < after_s < 150 else 0.0, 0.8 if 60 < after_s < 150 else 0.2)
                for role in STEPS
            }
            if after_s != 200
            else {},
        )
        for after_s in range(-4, 424, 2)
    ]
    run = RunRecord(
        "default/chat",
        objective=Objective(2.0, 0.15, 95),
        samples=samples,
        phases=[PhaseSpan(name, START + start, START + end, rate, 128, 32) for name, start, end, rate in PHASES],
        stages=[Stage("Kubernetes up", 9.2), Stage("engines Ready", 84.0)],
        sent_at=sent,
        results=done,
        versions={"headrace": "0.1.0", "sglang": "0.5.23"},
    )
    for role, (wanted, _, drained, _) in STEPS.items():
        run.note_decisions([decision(role, wanted, 1, 2), decision(role, drained, 2, 1)])
    return run
