"""Engine step times by least squares from a measured profile and an idle disaggregation probe, never from serving."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.catalog.measured import LLAMA_8B
from headrace.catalog.models import ModelFacts
from headrace.catalog.step_times import StepTimes
from headrace.simulator.times import GRAPH_BATCH, KV_CHUNK_TOKENS, EngineTimes, PrefillTimes, TransferTimes

LINEAR_FROM_TOKENS = 1024  # below, a lone prompt waits for kernel launches (a floor), not for arithmetic
NON_STREAMING_STEPS = 1  # a non-streaming reply of one token comes one decode step after a streaming one
# Experts per token / experts of today's MoE models: 8/256, 8/160, 8/128, 4/64, 8/64, 2/8.
EXPERTS_SHARES = (0.03125, 0.05, 0.0625, 0.125, 0.25)
EXPERTS_ARITHMETIC = 0.6  # of a MoE prompt token's arithmetic, for a model not known: Qwen3-30B 0.66, DeepSeek-V3 0.57
PASSES = 4  # of the fixed point in the MoE prefill fit: each is ten times nearer, 1e-4 after four
# Host work and link of the measured H100 pair (SGLang 0.5.14, Llama-3.1-8B shape, 32 layers, nixl/UCX on one host):
# 18.3 ms a decode step with --disable-cuda-graph (median of 17.8, 18.3 and 21.4 ms at batch 32, 1 and 8), 33.2 ms a
# prefill step without graphs, 5.43 us of transfer for a token's 131,072 bytes of KV.
EAGER_DECODE_LAYER_S = 18.3e-3 / 32
EAGER_PREFILL_LAYER_S = 33.2e-3 / 32
TRANSFER_BYTE_S = 5.43e-6 / 131_072

Rows = Sequence[Mapping[str, Any]]
Floats = npt.NDArray[np.float64]


class UnusableProfile(ValueError):  # noqa: N818 - reads as what happened
    """The profile lacks rows that the fit needs; the message names them."""


def fit(
    profile: Mapping[str, Any], probe: Mapping[str, Any] | None = None, model: ModelFacts = LLAMA_8B
) -> EngineTimes:
    """Fit all step times of `model`.

    `profile` has rows `prefill` (input_len, client_median_s, server_e2e_median_s), `prefill_sat` (input_len, n,
    total_s) and `decode` (batch, total_kv_tokens, step_s); `probe` rows (input_len, unified_ttft_s, pd_ttft_s), of
    which those that failed may lack either. Whether the model is MoE shows in the decode rows. Raises UnusableProfile
    when fewer than 3 decode or prefill rows are there or a row lacks a field.
    """
    prefill = _rows(profile, "prefill", ("input_len", "client_median_s", "server_e2e_median_s"), least=1)
    saturated = _rows(profile, "prefill_sat", ("input_len", "n", "total_s"), least=0)
    decode_rows = _rows(profile, "decode", ("batch", "total_kv_tokens", "step_s"))
    probe_rows = [row for row in (probe or {}).get("rows", []) if row.get("unified_ttft_s")]
    largest = graph_batch((profile.get("server") or {}).get("server_info") or {}) or GRAPH_BATCH
    graphs = [row for row in decode_rows if row["batch"] <= largest]
    decode = _decode(graphs)
    frontend = median(row["client_median_s"] - row["server_e2e_median_s"] for row in prefill)
    experts = _Experts(decode.decode_base_s, decode.decode_experts_s, model.prefill_experts_share or EXPERTS_ARITHMETIC)
    line = _busy(saturated, frontend, experts) if _long(saturated) else None
    idle = _idle(_lone(prefill, probe_rows, frontend, decode.decode_base_s), experts, line)
    decode = _decode(_below_arithmetic(graphs, idle, read_weights_s(model, decode)))
    weights_s = decode.decode_fixed_s(KV_CHUNK_TOKENS)  # no step is faster than reading the weights once
    transfer, eager = _transfer(probe_rows, frontend, idle, model)
    eager_decode = [row["step_s"] for row in decode_rows if row["batch"] > largest]
    return EngineTimes(
        busy=replace(line or replace(idle, base_s=experts.base_s), floor_s=weights_s),
        idle=idle,
        decode=decode,
        frontend_s=frontend,
        eager_launch_s=eager,
        transfer=transfer,
        weights_s=read_weights_s(model, decode),
        eager_decode_s=min(eager_decode, default=EAGER_DECODE_LAYER_S * model.layers),
        graph_batch=largest,
    )


def read_weights_s(model: ModelFacts, steps: StepTimes) -> float:
    """Seconds of a decode step that reading the dense weights takes, at the bandwidth that reading KV shows.

    Llama-8B on H100: 7.50e9 x 2 bytes, and 131,072 bytes of KV in 42.7 ns: 4.89 of the step's 6.41 ms.
    """
    seconds_per_byte = steps.decode_kv_token_s / model.kv_bytes_per_token()
    return min(model.params_dense * model.weight_byte * seconds_per_byte, steps.decode_base_s)


def _rows(profile: Mapping[str, Any], name: str, fields: Sequence[str], least: int = 3) -> Rows:
    """The rows of one table, checked. Raises UnusableProfile that names the table and the field."""
    rows = profile.get(name, [])
    if not isinstance(rows, list) or len(rows) < least:
        found = len(rows) if isinstance(rows, list) else 0
        raise UnusableProfile(f"profile: {name} has {found} rows, but the fit needs at least {least}")
    for index, row in enumerate(rows):
        for field in fields:
            if not isinstance(row, Mapping) or not isinstance(row.get(field), int | float) or row[field] <= 0:
                raise UnusableProfile(
                    f"profile: {name}[{index}].{field} is not a number above 0; measure that row again"
                )
    return rows


def graph_batch(server_info: Mapping[str, Any]) -> int | None:
    """The largest batch with a CUDA graph, as SGLang's /get_server_info tells it."""
    found: Any = server_info
    for key in ("cuda_graph_config", "decode", "max_bs"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) and found > 0 else None


@dataclass(frozen=True, slots=True)
class _Experts:
    """What a MoE prefill step has beside its tokens: the decode step's base, and the experts to read."""

    base_s: float
    read_s: float
    share: float  # of a token's arithmetic

    def solve(
        self, tokens: Sequence[float], work: Sequence[float], seconds: Sequence[float], *, base: bool
    ) -> PrefillTimes:
        """base + token x + context w, and for MoE the wait for experts, which depends on the token time: in passes."""
        columns = [list(tokens), list(work)]
        if base:
            columns.insert(0, [1.0] * len(tokens))
        times = PrefillTimes(0.0, 0.0, 0.0)
        for _ in range(PASSES if self.read_s else 1):
            fixed = [times.experts_wait_s(x) for x in tokens]
            found = _solve(columns, [s - wait for s, wait in zip(seconds, fixed, strict=True)])
            token, context = float(found[-2]), float(found[-1])
            times = PrefillTimes(
                float(found[0]) if base else 0.0, token, context,
                experts_s=self.read_s, expert_token_s=token * self.share if self.read_s else 0.0,
            )  # fmt: skip
        return times


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


def _below_arithmetic(rows: Rows, idle: PrefillTimes, weights_s: float) -> Rows:
    """The rows less what the arithmetic of their batch takes beyond the reading of weights: see `decode_fixed_s`."""
    token_s = idle.token_s - idle.expert_token_s
    beyond = [max(0.0, token_s * row["batch"] - weights_s) for row in rows]
    return [{**row, "step_s": row["step_s"] - extra} for row, extra in zip(rows, beyond, strict=True)]


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


def _lone(prefill: Rows, probe: Rows, frontend_s: float, decode_s: float) -> list[tuple[int, float]]:
    """Length and seconds of lone prompts: the streaming probe where there is one, else the non-streaming rows."""
    if probe:
        return [(row["input_len"], row["unified_ttft_s"] - frontend_s) for row in probe]
    late = frontend_s + NON_STREAMING_STEPS * decode_s
    return [(row["input_len"], row["client_median_s"] - late) for row in prefill]


def _idle(lone: Sequence[tuple[int, float]], experts: _Experts, busy: PrefillTimes | None) -> PrefillTimes:
    """A lone prompt; with fewer than 3 its tokens cost what saturated ones do, and the base is what is left."""
    line = [(n, s) for n, s in lone if LINEAR_FROM_TOKENS <= n <= KV_CHUNK_TOKENS]
    if len(line) >= 3:
        lengths = [float(n) for n, _ in line]
        times = experts.solve(lengths, [0.5 * n * n for n in lengths], [seconds for _, seconds in line], base=True)
    elif line and busy is not None:
        times = replace(busy, base_s=0.0, floor_s=0.0)
        left = median(seconds - times.step_s(n, 0.5 * n * n) for n, seconds in line)
        times = replace(times, base_s=max(left, 0.0))
    else:
        raise UnusableProfile(
            f"profile: prefill has {len(line)} rows of 1,024..8,192 tokens, but the fit needs 3 (1 beside prefill_sat)"
        )
    short = [seconds for n, seconds in lone if n < LINEAR_FROM_TOKENS]
    return replace(times, floor_s=max(0.0, min(short, default=0.0)))


def _busy(saturated: Rows, frontend_s: float, experts: _Experts) -> PrefillTimes:
    """Back-to-back steps of a full chunk: the device alone. All have one size, so no base can be told from a token."""
    rows = _long(saturated)
    steps = [-(-row["n"] * row["input_len"] // KV_CHUNK_TOKENS) for row in rows]
    base_s = experts.base_s if experts.read_s else 0.0
    per_step = [(row["total_s"] - frontend_s) / n - base_s for row, n in zip(rows, steps, strict=True)]
    tokens = [row["n"] * row["input_len"] / n for row, n in zip(rows, steps, strict=True)]
    work = [x * 0.5 * row["input_len"] for x, row in zip(tokens, rows, strict=True)]
    return replace(experts.solve(tokens, work, per_step, base=False), base_s=base_s)


def _transfer(probe: Rows, frontend_s: float, idle: PrefillTimes, model: ModelFacts) -> tuple[TransferTimes, float]:
    """The line through what disaggregation adds to a lone prompt's TTFT; the launch time that short prompts show.

    Without a probe: what the measured H100 pair showed, by KV bytes and layers.
    """
    both = [row for row in probe if row.get("pd_ttft_s")]
    long = [(min(row["input_len"], KV_CHUNK_TOKENS), row["pd_ttft_s"] - row["unified_ttft_s"])
            for row in both if row["input_len"] > LINEAR_FROM_TOKENS]  # fmt: skip
    if len(long) < 2:
        token_s = TRANSFER_BYTE_S * model.kv_bytes_per_token()
        return TransferTimes(0.0, token_s), max(idle.floor_s, EAGER_PREFILL_LAYER_S * model.layers)
    last = np.asarray([n for n, _ in long], dtype=np.float64)
    extra = np.asarray([seconds for _, seconds in long])
    slope, intercept = np.polyfit(last, extra, 1)
    transfer = TransferTimes(max(float(intercept), 0.0), max(float(slope), 0.0))
    short = [row["pd_ttft_s"] - frontend_s - transfer.seconds(row["input_len"])
             for row in both if row["input_len"] < LINEAR_FROM_TOKENS]  # fmt: skip
    return transfer, median(short) if short else idle.floor_s
