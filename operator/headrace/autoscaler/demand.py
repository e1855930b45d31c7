"""What arrives: the engines' arrivals per second and class, priced later by the capacity model."""

import math
from collections.abc import Iterable, Mapping

from headrace.autoscaler.history import ASSUMED_PROMPT_TOKENS, COLUMNS, Rows
from headrace.autoscaler.lengths import LengthLaw
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
    rows: Rows = {}
    prompts: Prompts = {}
    until: dict[str, int] = {}
    for pod in pods:
        state = pod.state
        if state is None:
            continue
        complete = math.floor(state.at) - 1
        old = memory.get(pod.pod)
        last = old.arrivals_until if old and old.arrivals_until else complete - FIRST_LOOK_S
        until[pod.pod] = max(complete, last)
        for arrival in reversed(state.arrivals):
            if arrival.at_s <= last:
                break
            if arrival.at_s <= complete:
                _add(rows, arrival, law)
                count, tokens = prompts.get(arrival.length_class, (0.0, 0.0))
                prompts[arrival.length_class] = (count + arrival.count, tokens + arrival.prompt_tokens)
    return rows, prompts, until, min(until.values()) if until else None


def _add(rows: Rows, arrival: ArrivalBin, law: LengthLaw) -> None:
    count, prompt, kind = float(arrival.count), float(arrival.prompt_tokens), arrival.length_class
    if count <= 0:
        return
    new = max(prompt - arrival.cached_tokens, 0.0)
    size = prompt / count
    mean, square, cube = law.mean[kind], law.square[kind], law.cube[kind]
    row = rows.setdefault(arrival.at_s, [0.0] * COLUMNS)
    row[0] += count
    row[1] += new
    row[2] += new * new / count
    row[3] += new * (prompt + arrival.cached_tokens) / (2.0 * count)
    row[4] += prompt
    row[5] += count * mean
    row[6] += count * (size * mean + square / 2.0)
    row[7] += count * (size * size * mean + size * square + cube / 3.0)


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
