"""Engine step times by least squares from a measured profile and an idle disaggregation probe, never from serving."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.catalog.step_times import StepTimes
from headrace.simulator.times import KV_CHUNK_TOKENS, EngineTimes, PrefillTimes, TransferTimes

LINEAR_FROM_TOKENS = 1024  # below, a lone prompt waits for kernel launches (a floor), not for arithmetic
NON_STREAMING_STEPS = 1  # a non-streaming reply of one token comes one decode step after a streaming one
# Experts per token / experts of today's MoE models: 8/256, 8/160, 8/128, 4/64, 8/64, 2/8.
EXPERTS_SHARES = (0.03125, 0.05, 0.0625, 0.125, 0.25)

Rows = Sequence[Mapping[str, Any]]
Floats = npt.NDArray[np.float64]


class UnusableProfile(ValueError):  # noqa: N818 - reads as what happened
    """The profile lacks rows that the fit needs; the message names them."""


def fit(profile: Mapping[str, Any], probe: Mapping[str, Any] | None = None) -> EngineTimes:
    """Fit all step times.

    `profile` has rows `prefill` (input_len, client_median_s, server_e2e_median_s), `prefill_sat` (input_len, n,
    total_s) and `decode` (batch, total_kv_tokens, step_s); `probe` rows (input_len, pd_ttft_s, unified_ttft_s).
    Whether the model is MoE shows in the decode rows. Raises UnusableProfile when fewer than 3 decode or prefill rows
    are there.
    """
    prefill, saturated = profile.get("prefill", []), profile.get("prefill_sat", [])
    decode_rows, probe_rows = profile.get("decode", []), (probe or {}).get("rows", [])
    if len(decode_rows) < 3:
        raise UnusableProfile(f"profile: decode has {len(decode_rows)} rows, but the fit needs at least 3")
    if len(prefill) < 3:
        raise UnusableProfile(f"profile: prefill has {len(prefill)} rows, but the fit needs at least 3")
    decode = _decode(decode_rows)
    frontend = median(row["client_median_s"] - row["server_e2e_median_s"] for row in prefill)
    idle = _idle(prefill, probe_rows, frontend, decode.decode_base_s)
    weights_s = decode.decode_fixed_s(KV_CHUNK_TOKENS)  # no step is faster than reading the weights once
    line = _busy(saturated, frontend) if _long(saturated) else idle
    busy = PrefillTimes(0.0, line.token_s, line.context_s, weights_s)
    transfer, eager = _transfer(probe_rows, frontend, idle)
    return EngineTimes(busy, idle, decode, frontend, eager, transfer)


def _long(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["input_len"] >= LINEAR_FROM_TOKENS]


def _solve(columns: Sequence[Sequence[float]], values: Sequence[float]) -> Floats:
    """Least squares of the relative error; a coefficient below 0 is set to 0 and the rest fitted again."""
    target = np.asarray(values, dtype=np.float64)
    matrix = np.asarray(columns, dtype=np.float64).T / target[:, None]
    keep = np.ones(matrix.shape[1], dtype=bool)
    while True:
        found = np.zeros(matrix.shape[1])
        found[keep] = np.linalg.lstsq(matrix[:, keep], np.ones(len(target)), rcond=None)[0]
        if (found >= 0).all() or not keep.any():
            return found
        keep &= found >= 0


def _decode(rows: Rows) -> StepTimes:
    """The dense form, or the MoE form of the best share when that halves the error: its curve is hard to mistake."""
    dense, error = _decode_form(rows, 0.0)
    found = min((_decode_form(rows, share) for share in EXPERTS_SHARES), key=lambda form: form[1])
    return found[0] if found[1] < 0.5 * error else dense


def _decode_form(rows: Rows, experts_share: float) -> tuple[StepTimes, float]:
    """d0 + d1 b + d2 K, and for MoE de (1 - (1 - share)^b); with the mean relative error."""
    batch = [float(row["batch"]) for row in rows]
    columns = [[1.0] * len(rows), batch, [float(row["total_kv_tokens"]) for row in rows]]
    if experts_share:
        columns.append([1.0 - (1.0 - experts_share) ** b for b in batch])
    seen = [row["step_s"] for row in rows]
    found = _solve(columns, seen)
    error = float(np.mean(np.abs(found @ np.asarray(columns) / np.asarray(seen) - 1.0)))
    steps = StepTimes(
        prefill_base_s=0.0,
        prefill_token_s=0.0,
        prefill_token_context_s=0.0,
        decode_base_s=float(found[0]),
        decode_sequence_s=float(found[1]),
        decode_kv_token_s=float(found[2]),
        decode_experts_s=float(found[3]) if experts_share else 0.0,
        experts_share=experts_share,
    )
    return steps, error


def _idle(prefill: Rows, probe: Rows, frontend_s: float, decode_s: float) -> PrefillTimes:
    """A lone prompt: from the streaming probe where there is one, else from the profile's non-streaming rows."""
    if probe:
        lone = [(row["input_len"], row["unified_ttft_s"] - frontend_s) for row in probe]
    else:
        late = frontend_s + NON_STREAMING_STEPS * decode_s
        lone = [(row["input_len"], row["client_median_s"] - late) for row in prefill]
    line = [(n, s) for n, s in lone if LINEAR_FROM_TOKENS <= n <= KV_CHUNK_TOKENS]
    if len(line) < 3:
        raise UnusableProfile(f"profile: prefill has {len(line)} rows of 1,024..8,192 tokens, but the fit needs 3")
    lengths = [float(n) for n, _ in line]
    base, token, context = _solve(
        [[1.0] * len(line), lengths, [0.5 * n * n for n in lengths]], [seconds for _, seconds in line]
    )
    short = [seconds for n, seconds in lone if n < LINEAR_FROM_TOKENS]
    return PrefillTimes(float(base), float(token), float(context), min(short) if short else 0.0)


def _busy(saturated: Rows, frontend_s: float) -> PrefillTimes:
    """Back-to-back steps of a full chunk: the device alone. All have one size, so no base can be told from a token."""
    rows = _long(saturated)
    steps = [-(-row["n"] * row["input_len"] // KV_CHUNK_TOKENS) for row in rows]
    per_step = [(row["total_s"] - frontend_s) / n for row, n in zip(rows, steps, strict=True)]
    tokens = [row["n"] * row["input_len"] / n for row, n in zip(rows, steps, strict=True)]
    work = [x * 0.5 * row["input_len"] for x, row in zip(tokens, rows, strict=True)]
    token, context = _solve([tokens, work], per_step)
    return PrefillTimes(0.0, float(token), float(context))


def _transfer(probe: Rows, frontend_s: float, idle: PrefillTimes) -> tuple[TransferTimes, float]:
    """The line through what disaggregation adds to a lone prompt's TTFT; the launch time that short prompts show."""
    if not probe:
        return TransferTimes(0.0, 0.0), idle.floor_s
    long = [(min(row["input_len"], KV_CHUNK_TOKENS), row["pd_ttft_s"] - row["unified_ttft_s"])
            for row in probe if row["input_len"] > LINEAR_FROM_TOKENS]  # fmt: skip
    last = np.asarray([n for n, _ in long], dtype=np.float64)
    extra = np.asarray([seconds for _, seconds in long])
    slope, intercept = np.polyfit(last, extra, 1)
    transfer = TransferTimes(max(float(intercept), 0.0), max(float(slope), 0.0))
    short = [row["pd_ttft_s"] - frontend_s - transfer.seconds(row["input_len"])
             for row in probe if row["input_len"] < LINEAR_FROM_TOKENS]  # fmt: skip
    return transfer, median(short) if short else idle.floor_s
