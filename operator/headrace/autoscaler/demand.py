"""What arrives: the engines' arrivals per second and class, priced later by the capacity model."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from headrace.autoscaler.history import ASSUMED_PROMPT_TOKENS, COLUMNS, Rows
from headrace.autoscaler.lengths import LengthLaw
from headrace.autoscaler.memory import PodMemory
from headrace.autoscaler.prompts import Prompts
from headrace.autoscaler.signals import ArrivalBin, PodPhase, PodSample

FIRST_LOOK_S = 120  # the engine's own memory of arrivals
APART_S = 2  # reads of one tick fall into neighbouring seconds: an engine further behind the others was not read


def gather(
    pods: Collection[PodSample], memory: Mapping[str, PodMemory], law: LengthLaw
) -> tuple[Rows, Prompts, dict[str, int], int | None]:
    """New arrivals of pods that report them: rows by second, prompts by class, per pod the last second, the front.

    The front is the last second that is told in full: the history ends there, so that a pod read a little later does
    not look like a fall of the load, and what pods told beyond it is taken at the next tick. A pod that tells nothing
    of the seconds up to the front is taken to get what the others got: missing is not zero. With 17 pods and one scrape
    in twenty lost, one is silent in six of ten ticks: to wait for it would mean to decide by older arrivals each time.
    """
    told = {pod.pod: math.floor(pod.state.at) - 1 for pod in pods if pod.state is not None}
    front = _front(told.values())
    if front is None:
        return {}, {}, {}, None
    rows: defaultdict[int, list[float]] = defaultdict(lambda: [0.0] * COLUMNS)
    classes: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    until: dict[str, int] = {}
    silent: list[int] = []
    laws = list(zip(law.mean, law.square, law.cube, strict=True))
    for pod in pods:
        if pod.state is None:
            continue
        old, complete = memory.get(pod.pod), min(told[pod.pod], front)
        last = old.arrivals_until if old and old.arrivals_until else complete - FIRST_LOOK_S
        for arrival in reversed(pod.state.arrivals):
            if arrival.at_s <= last:
                break
            if arrival.at_s <= complete:
                kind = arrival.length_class
                _add(rows[arrival.at_s], classes[kind], arrival, laws[kind])
        is_off = told[pod.pod] - FIRST_LOOK_S > front  # its clock: it remembers nothing of the seconds up to the front
        until[pod.pod] = last if is_off else max(complete, last)
        if until[pod.pod] < front and pod.phase is PodPhase.SERVING:
            silent.append(until[pod.pod])
            until[pod.pod] = front
    if silent:
        _impute(rows, silent, len(until))
    prompts = {kind: (count, tokens) for kind, (count, tokens) in classes.items()}
    return dict(rows), prompts, until, front


def _front(told: Iterable[int]) -> int | None:
    """The least of the last seconds that is not far behind the middle one. 100, 99, 100, 85: 99. 100, 90: 90."""
    ordered = sorted(told)
    if not ordered:
        return None
    middle = ordered[(len(ordered) - 1) // 2]
    return next(second for second in ordered if second >= middle - APART_S)


def _impute(rows: Rows, silent: Collection[int], pods: int) -> None:
    """Scale the seconds that silent pods did not tell. One of six did not: the row of the five counts 6 / 5."""
    for second, row in rows.items():
        unknown = sum(until < second for until in silent)
        if unknown:
            rows[second] = [value * pods / (pods - unknown) for value in row]


def _add(row: list[float], of_class: list[float], arrival: ArrivalBin, law: tuple[float, float, float]) -> None:
    count, prompt, cached = arrival.count, arrival.prompt_tokens, arrival.cached_tokens
    of_class[0] += count
    of_class[1] += prompt
    if count <= 0:
        return
    new = prompt - cached if prompt > cached else 0.0
    mean, square, cube = law
    row[0] += count
    row[1] += new
    row[2] += new * new / count
    row[3] += new * (prompt + cached) / (2.0 * count)
    row[4] += prompt
    row[5] += count * mean
    # count x lengths.moments_held(prompt / count, ...), without the call: a tick does this for every bin of an engine.
    row[6] += prompt * mean + count * square / 2.0
    row[7] += prompt * prompt / count * mean + prompt * square + count * cube / 3.0


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
