"""What the clients got, and what that says about the sizing: the outer loop around the model.

A model of queues is never quite right, and a start-up leaves misses behind that nothing can undo. So the share of
requests that missed is integrated against the share that may (adaptive conformal inference, Gibbs and Candes 2021): the
integral is the logarithm of a factor on a role's needs. Within the factor's bounds the misses of a long run end at the
objective's share, whatever the model gets wrong.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from headrace.autoscaler.limits import MissShares, Objective
from headrace.autoscaler.memory import Feedback, PodMemory
from headrace.autoscaler.signals import PodSample

REPAY_S = 12000.0  # seconds at twice the misses allowed that raise the needs by a factor of e
MOST = 0.5  # logarithm of the largest factor, 1.65: bursts that no start is in time for ask for so much standing by
LEAST = 0.0  # the model alone is never undercut: what it would save is lost again when the load turns
RATE_S = 600.0  # memory of the rate of answers that the misses are weighed with, and of the shares
LOOKED_AT = 16  # answers of an engine and tick: ten engines tell a minute's share to 1 %, in little time
LEAST_ANSWERS = 20.0  # in the memory of the rate before anything is concluded
HELPS_SHARE = 0.2  # of what a role may miss: one that misses less has next to nothing to make good with


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers that ended since the last tick, and how many of them missed each objective."""

    answers: float = 0.0
    ttft_missed: float = 0.0
    late_alone: float = 0.0  # of these, prompts that take longer than their objective on an idle replica
    tpot_missed: float = 0.0


def outcome(
    pods: Iterable[PodSample], known: Mapping[str, PodMemory], objective: Objective, alone_s: Callable[[float], float]
) -> Outcome:
    """Sum over engines that answer. Answers that are not in the list, or not looked at, count like those that are.

    `alone_s`: seconds that a prompt of so many tokens takes on an idle replica.
    """
    answers = ttft = alone = tpot = 0.0
    for pod in pods:
        old, state = known.get(pod.pod), pod.state
        if state is None or old is None or old.finished is None or state.finished_total <= old.finished:
            continue
        new = state.finished_total - old.finished
        newest = state.finished[-new:]
        seen = [r for r in newest[:: max(-(-len(newest) // LOOKED_AT), 1)] if r.ttft_s is not None]
        if not seen:
            continue
        weight = new / len(seen)
        answers += new
        late = [r for r in seen if r.ttft_s is not None and objective.is_late(r.ttft_s, r.prompt_tokens)]
        ttft += weight * len(late)
        alone += weight * len([r for r in late if objective.is_late(alone_s(r.prompt_tokens), r.prompt_tokens)])
        tpot += weight * len([r for r in seen if r.tpot_s is not None and r.tpot_s > objective.tpot_s])
    return Outcome(answers, ttft, alone, tpot)


def learn(old: Feedback, found: Outcome, may: MissShares, elapsed_s: float, *, decode_bound: bool) -> Feedback:
    """The loop after `elapsed_s`. TTFT missed because decode had no place is decode's; what is late alone is nobody's.

    600 answers in 10 s at a rate of 60 a second, 90 of them late, 4 % allowed: the integral of prefill grows by
    (90 / 0.04 - 600) / 60 / 12,000 = 0.0023, the needs by 0.2 %. What both miss together is made good by each role
    that misses anything itself: of 5 % allowed in all, decode then grows by (90 / 0.05 - 600) / 60 / 12,000 = 0.0017.
    """
    elapsed_s = max(elapsed_s, 0.0)  # a clock that was set back
    keep = math.exp(-elapsed_s / RATE_S)
    seconds = keep * old.seconds + elapsed_s
    answers = keep * old.answers + found.answers
    ttft, tpot = keep * old.ttft_missed + found.ttft_missed, keep * old.tpot_missed + found.tpot_missed
    alone = keep * old.late_alone + found.late_alone
    if answers < LEAST_ANSWERS or seconds <= 0.0:
        return Feedback(seconds, answers, ttft, alone, tpot, old.prefill, old.decode)
    per_s = answers / seconds
    late, slow = found.ttft_missed - found.late_alone, found.tpot_missed
    prefill_missed, decode_missed = (0.0, late + slow) if decode_bound else (late, slow)
    prefill, decode = prefill_missed / may.prefill - found.answers, decode_missed / may.decode - found.answers
    both = (late + slow) / (may.prefill + may.decode) - found.answers
    if ttft - alone > HELPS_SHARE * may.prefill * answers and not decode_bound:
        prefill = max(prefill, both)
    if tpot > HELPS_SHARE * may.decode * answers:
        decode = max(decode, both)
    steps = _step(old.prefill, prefill, per_s), _step(old.decode, decode, per_s)
    return Feedback(seconds, answers, ttft, alone, tpot, *steps)


def _step(integral: float, excess: float, per_s: float) -> float:
    return min(max(integral + excess / per_s / REPAY_S, LEAST), MOST)
