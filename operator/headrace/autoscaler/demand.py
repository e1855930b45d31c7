"""What arrives: the engines' arrivals per second and class, priced later by the capacity model."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from headrace.autoscaler.history import ASSUMED_PROMPT_TOKENS, COLUMNS, Rows
from headrace.autoscaler.lengths import LengthLaw, moments_held
from headrace.autoscaler.memory import PodMemory
from headrace.autoscaler.prompts import Prompts
from headrace.autoscaler.signals import ArrivalBin, PodSample

FIRST_LOOK_S = 120  # the engine's own memory of arrivals


def gather(
    pods: Iterable[PodSample], memory: Mapping[str, PodMemory], law: LengthLaw
) -> tuple[Rows, Prompts, dict[str, int], int | None]:
    """New arrivals of pods that report them: rows by second, prompts by class, per pod the last second, the front.

    The front is the last second that every reporting pod has told in full: the history ends there, so that a pod read
    a little later does not look like a fall of the load.
    """
    rows: defaultdict[int, list[float]] = defaultdict(lambda: [0.0] * COLUMNS)
    classes: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    until: dict[str, int] = {}
    laws = list(zip(law.mean, law.square, law.cube, strict=True))
    for pod in pods:
        state = pod.state
        if state is None:
            continue
        complete = math.floor(state.at) - 1
        old = memory.get(pod.pod)
        last = old.arrivals_until if old and old.arrivals_until else complete - FIRST_LOOK_S
        until[pod.pod] = max(complete, last)
        for arrival in reversed(state.arrivals):
            second = arrival.at_s
            if second <= last:
                break
            if second <= complete:
                kind = arrival.length_class
                _add(rows[second], classes[kind], arrival, laws[kind])
    prompts = {kind: (count, tokens) for kind, (count, tokens) in classes.items()}
    return dict(rows), prompts, until, min(until.values()) if until else None


def _add(row: list[float], of_class: list[float], arrival: ArrivalBin, law: tuple[float, float, float]) -> None:
    count, prompt, cached = arrival.count, arrival.prompt_tokens, arrival.cached_tokens
    of_class[0] += count
    of_class[1] += prompt
    if count <= 0:
        return
    new = prompt - cached if prompt > cached else 0.0
    size = prompt / count
    kv, kv_sq = moments_held(size, *law)
    row[0] += count
    row[1] += new
    row[2] += new * new / count
    row[3] += new * (prompt + cached) / (2.0 * count)
    row[4] += prompt
    row[5] += count * law[0]
    row[6] += count * kv
    row[7] += count * kv_sq


def reckon(pods: Iterable[PodSample], memory: Mapping[str, PodMemory]) -> tuple[Rows, int | None]:
    """Arrivals of stock engines: tokens prefilled plus growth of the queue, spread over the seconds between reads."""
    rows: Rows = {}
    front: int | None = None
    for pod in pods:
        load, old = pod.load, memory.get(pod.pod)
        if pod.state is not None or load is None or pod.sampled_at is None or old is None or pod.sampled_at <= old.at:
            continue
        if load.prefill_uncached_tokens_total is None or old.uncached_tokens is None:
            continue
        waiting = float(load.waiting_uncached_tokens or 0)
        grown = load.prefill_uncached_tokens_total - old.uncached_tokens + waiting - (old.waiting_tokens or 0.0)
        first, last = math.floor(old.at), math.floor(pod.sampled_at) - 1
        if last < first or load.prefill_uncached_tokens_total < old.uncached_tokens:
            continue
        tokens = max(grown, 0.0) / (last - first + 1)
        for second in range(first, last + 1):
            row = rows.setdefault(second, [0.0] * COLUMNS)
            row[0] += tokens / ASSUMED_PROMPT_TOKENS
            row[1] += tokens
            row[2] += tokens * ASSUMED_PROMPT_TOKENS
            row[3] += tokens * ASSUMED_PROMPT_TOKENS / 2.0
            row[4] += tokens
        front = last if front is None else min(front, last)
    return rows, front
