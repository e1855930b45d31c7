"""Correcting the capacity model by what the engines themselves count.

SGLang 0.5.23 (`Scheduler._record_step_counters`): `decode_moments` = [steps, sum b, sum t, sum b^2, sum b t, sum
generated], t in microseconds, over decode steps that followed a decode step directly; `total_prefill_busy_us` and
`total_prefill_uncached_tokens` grow with every prefill step. Differences between two reads are therefore exact.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from headrace.autoscaler.capacity import CapacityModel, DecodeEvidence, PrefillEvidence
from headrace.catalog.step_times import StepTimes

MEMORY_BUSY_S = 600.0  # evidence fades over ten minutes of busy engine time: longer than a mix of requests lasts
SURPRISED_BUSY_S = 30.0  # ... over half a minute when predictions fail: an engine that changed is learned anew
VALID_ERROR = 0.15  # mean prediction error below which the model counts as calibrated
LOST_ERROR = 0.4  # above which evidence that was trusted is so no more: one noisy interval is no other engine
ERROR_STEP = 0.4  # weight of the newest error: four good intervals (20 s) clear a bad start
TRUST_STEPS = 20.0  # decode steps that weigh as much as the prior
FREE_STEPS = 100.0  # consistent steps after which evidence may leave the clip
FREE_BUSY_S = 5.0  # the same for seconds of prefill
CLIP = (0.5, 2.0)  # a prior from a data sheet is seldom further off; what is further must first prove consistent
STEP_NOISE = 0.1  # scatter of a single step against its expectation
SHAPE_SPREAD = 0.5  # prior spread of base against slope, relative: +-50 %
SHAPE_STEPS = 200.0  # steps of an interval share their errors, so they count as at most so many
SHAPE_CLIP = (0.2, 5.0)  # base and slope stay positive
SATURATED_SHARE = 0.85  # busy share above which prefill steps count as filled by a queue


class DecodeInterval(NamedTuple):
    """One engine's decode steps between two reads."""

    steps: float
    batch: float
    time_s: float
    batch_sq: float
    batch_time_s: float
    kv_tokens: float  # resident tokens, mean of the two reads


class PrefillInterval(NamedTuple):
    """One engine's prefill between two reads; the request shape is the service's recent mean."""

    tokens: float
    busy_s: float
    wall_s: float
    queued: bool  # prompts waited at both reads
    request_tokens: float
    mean_context: float


def calibrate(
    model: CapacityModel, decode: Iterable[DecodeInterval], prefill: Iterable[PrefillInterval]
) -> CapacityModel:
    """The model after the intervals of one tick. Without intervals the model comes back as it is."""
    decode, prefill = tuple(decode), tuple(prefill)
    if not decode and not prefill:
        return model
    found_d, found_p = model.decode, model.prefill
    if decode:
        found_d = _add_decode(model.prior_steps, found_d, _together(decode))
    for part in prefill:
        found_p = _add_prefill(model, found_p, part)
    fixed, load = decode_factors(model.prior_steps, found_d)
    alone, saturated = prefill_factors(found_p)
    prior = model.prior_steps
    steps = replace(
        prior.scaled(prefill=alone, decode=load),
        decode_base_s=prior.decode_base_s * fixed,
        decode_experts_s=prior.decode_experts_s * fixed,
    )
    return replace(
        model,
        steps=steps,
        saturated=saturated / alone,
        decode=found_d,
        prefill=found_p,
        decode_valid=found_d.steps >= FREE_STEPS and found_d.error < VALID_ERROR,
        prefill_valid=max(found_p.seen_s, found_p.saturated_seen_s) >= FREE_BUSY_S and found_p.error < VALID_ERROR,
    )


def _together(intervals: tuple[DecodeInterval, ...]) -> DecodeInterval:
    """The intervals of all engines as one: sums add, the resident tokens are weighted by the steps."""
    steps, batch, time_s, batch_sq, batch_time_s, _ = map(sum, zip(*intervals, strict=True))
    kv_tokens = sum([part.kv_tokens * part.steps for part in intervals]) / steps
    return DecodeInterval(steps, batch, time_s, batch_sq, batch_time_s, kv_tokens)


def decode_factors(prior: StepTimes, found: DecodeEvidence) -> tuple[float, float]:
    """Factors on base and batch-dependent part of a decode step; clipped until the evidence is consistent."""
    scale, base, slope = _decode_fit(prior, found)
    scale = math.pow(scale, found.steps / (found.steps + TRUST_STEPS))
    if found.steps < FREE_STEPS or not found.trusted:
        scale = _clip(scale, CLIP)
    return scale * base, scale * slope


def prefill_factors(found: PrefillEvidence) -> tuple[float, float]:
    """Factors on a lone request's prefill and on batched prefill. Unknown batched work is priced as the lone one."""
    alone = _ratio(found.seen_s, found.predicted_s, found.trusted)
    if found.saturated_predicted_s <= 0.0:
        return alone, alone
    saturated = _ratio(found.saturated_seen_s, found.saturated_predicted_s, found.trusted)
    weight = found.saturated_seen_s / (found.saturated_seen_s + FREE_BUSY_S)
    batched = alone ** (1.0 - weight) * saturated**weight
    return (alone if found.predicted_s > 0.0 else batched), batched


def _ratio(seen_s: float, predicted_s: float, trusted: bool) -> float:
    if predicted_s <= 0.0:
        return 1.0
    ratio = (seen_s / predicted_s) ** (seen_s / (seen_s + 1.0))  # a second of work weighs as much as the prior
    return ratio if trusted and seen_s >= FREE_BUSY_S else _clip(ratio, CLIP)


def _decode_fit(prior: StepTimes, found: DecodeEvidence) -> tuple[float, float, float]:
    """Scale, and the shares of base and slope in it: ridge regression towards the scaled prior's shape.

    One scalar first, then the shape, so that with a constant batch (no excitation) only the scalar moves.
    """
    if found.steps <= 0.0 or found.time_s <= 0.0:
        return 1.0, 1.0, 1.0
    mean_batch = found.batch / found.steps
    context = found.kv_tokens / max(found.batch, 1.0)
    base = prior.decode_fixed_s(mean_batch)
    slope = prior.decode_sequence_s + prior.decode_kv_token_s * context
    scale = found.time_s / (base * found.steps + slope * found.batch)
    mean_s = found.time_s / found.steps
    a, b = scale * base / mean_s, scale * slope / mean_s
    weight = min(found.steps, SHAPE_STEPS) / found.steps / STEP_NOISE**2
    ridge = 1.0 / SHAPE_SPREAD**2
    g11 = a * a * found.steps * weight + ridge
    g12 = a * b * found.batch * weight
    g22 = b * b * found.batch_sq * weight + ridge
    r1 = a * found.time_s / mean_s * weight + ridge
    r2 = b * found.batch_time_s / mean_s * weight + ridge
    det = g11 * g22 - g12 * g12
    u1 = _clip((g22 * r1 - g12 * r2) / det, SHAPE_CLIP)
    u2 = _clip((g11 * r2 - g12 * r1) / det, SHAPE_CLIP)
    return scale, u1, u2


def _add_decode(prior: StepTimes, found: DecodeEvidence, seen: DecodeInterval) -> DecodeEvidence:
    scale, base, slope = _decode_fit(prior, found)
    batch = seen.batch / seen.steps
    linear = prior.decode_sequence_s * batch + prior.decode_kv_token_s * seen.kv_tokens
    predicted_s = scale * (base * prior.decode_fixed_s(batch) + slope * linear)
    error = min(abs(predicted_s * seen.steps / seen.time_s - 1.0), 1.0)
    error = found.error + ERROR_STEP * (error - found.error)
    keep = _keep(seen.time_s, error)
    return DecodeEvidence(
        steps=keep * found.steps + seen.steps,
        batch=keep * found.batch + seen.batch,
        time_s=keep * found.time_s + seen.time_s,
        batch_sq=keep * found.batch_sq + seen.batch_sq,
        batch_time_s=keep * found.batch_time_s + seen.batch_time_s,
        kv_tokens=keep * found.kv_tokens + seen.kv_tokens * seen.steps,
        error=error,
        trusted=_trusted(found.trusted, error),
    )


def _add_prefill(model: CapacityModel, found: PrefillEvidence, seen: PrefillInterval) -> PrefillEvidence:
    prior = model.prior_steps
    share = min(seen.busy_s / max(seen.wall_s, 1e-3), 1.0)
    saturated = seen.queued or share > SATURATED_SHARE
    # Prompts that arrive during a step share the next one: at half load about two requests a step.
    per_step = seen.request_tokens / max(1.0 - share, 0.05)
    per_step = model.chunk_tokens if saturated else min(max(per_step, 1.0), model.chunk_tokens)
    token_s = prior.prefill_token_s + prior.prefill_token_context_s * seen.mean_context
    predicted_s = seen.tokens * (token_s + prior.prefill_base_s / per_step)
    if not saturated:
        predicted_s = max(predicted_s, prior.prefill_floor_s * seen.tokens / per_step)
    # The evidence is judged by what it alone would have said, without the prior's pull.
    alone = found.seen_s / found.predicted_s if found.predicted_s > 0.0 else 1.0
    batched = found.saturated_seen_s / found.saturated_predicted_s if found.saturated_predicted_s > 0.0 else alone
    factor = batched if saturated else (alone if found.predicted_s > 0.0 else batched)
    error = min(abs(factor * predicted_s / seen.busy_s - 1.0), 1.0)
    error = found.error + ERROR_STEP * (error - found.error)
    keep = _keep(seen.busy_s, error)
    light, heavy = (0.0, 1.0) if saturated else (1.0, 0.0)
    return PrefillEvidence(
        seen_s=keep * found.seen_s + light * seen.busy_s,
        predicted_s=keep * found.predicted_s + light * predicted_s,
        saturated_seen_s=keep * found.saturated_seen_s + heavy * seen.busy_s,
        saturated_predicted_s=keep * found.saturated_predicted_s + heavy * predicted_s,
        error=error,
        trusted=_trusted(found.trusted, error),
    )


def _trusted(before: bool, error: float) -> bool:
    return error < (LOST_ERROR if before else VALID_ERROR)


def _keep(busy_s: float, error: float) -> float:
    memory_s = MEMORY_BUSY_S if error < VALID_ERROR else SURPRISED_BUSY_S
    return memory_s / (memory_s + busy_s)


def _clip(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
