"""What engines and gateways answer, read into typed samples. Whatever is malformed is an error, never a zero."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from headrace.autoscaler.signals import ArrivalBin, EngineLoad, EngineState, FinishedRequest, RunningStream
from headrace.engines.versions import AGGREGATED, dead, read_as, renamed, text
from headrace_engine_config.length_class import LENGTH_CLASSES

_DISAGGREGATION = {
    "prefill_bootstrap_requests": "prefill_bootstrap_queue_reqs",
    "prefill_inflight_requests": "prefill_inflight_queue_reqs",
    "decode_prealloc_requests": "decode_prealloc_queue_reqs",
    "decode_transfer_requests": "decode_transfer_queue_reqs",
    "decode_retracted_requests": "decode_retracted_queue_reqs",
}


class MalformedError(ValueError):
    """An answer that does not have the form it should have: the sample counts as missing."""


def parse_loads(answer: Any) -> EngineLoad:
    """`/v1/loads` (SGLang 0.5.8 and newer, format=json), its ranks aggregated to the replica.

    Counts and tokens add up over the data-parallel ranks. Busy time is the ranks' mean, so that tokens over busy
    seconds is the rate of the whole replica: two ranks that each prefilled 1,000 tokens in 1 s gave 2,000 tokens/s.
    What `versions` knows to be dead in the engine's release is not known.
    """
    try:
        rows = _data_parallel(answer["loads"])
        if not rows:
            raise MalformedError("no rank reported")
        told = str(answer.get("version") or "")
        known = read_as(told)
        load = _aggregate(rows, {**_DISAGGREGATION, **renamed(known.version)})
        mode = str((rows[0].get("disaggregation") or {}).get("mode") or AGGREGATED)
        unknown: dict[str, Any] = dict.fromkeys(dead(known.version, mode))
        return replace(
            load,
            lag_s=_lag_s(answer, rows) if load.running_requests or load.waiting_requests else 0.0,
            engine_version=told,
            read_as=text(known.version) if known.stands_in else "",
            **unknown,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"/v1/loads: {_why(error)}") from None


def parse_state(answer: Any) -> EngineState:
    """`/headrace/state`, version 1."""
    try:
        if answer["version"] != 1:
            raise MalformedError(f"version {answer['version']} is not known")
        return _state(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"/headrace/state: {_why(error)}") from None


def parse_workers(answer: Any) -> frozenset[str]:
    """The hosts on a gateway's worker list (`GET /workers`)."""
    try:
        workers = answer["workers"] if isinstance(answer, Mapping) else answer
        return frozenset(_host(worker["url"]) for worker in workers)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"/workers: {_why(error)}") from None


def parse_exposition(text: str, names: Iterable[str]) -> dict[str, float]:
    """The sums over their series of some metrics in Prometheus' text format; metrics that are absent are left out."""
    wanted, sums = set(names), dict[str, float]()
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in wanted:
            try:
                sums[name] = sums.get(name, 0.0) + float(line.rpartition("}")[2].split()[-1])
            except (ValueError, IndexError):
                raise MalformedError(f"/metrics: {line[:80]!r} has no number") from None
    return sums


def _data_parallel(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row for each data-parallel rank. Tensor- and pipeline-parallel ranks do the same work on parts of the model.

    Of such ranks' rows the one with the most requests counts: they differ only by when they were written.
    """
    ranks: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        ranks[int(row.get("dp_rank") or 0)].append(row)
    return [max(same, key=_requests) if len(same) > 1 else same[0] for _, same in sorted(ranks.items())]


def _requests(row: Mapping[str, Any]) -> int:
    return int(row["num_running_reqs"]) + int(row["num_waiting_reqs"])


def _lag_s(answer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds from the oldest rank's figures to the answer, both by the engine's clock; 0 where it tells no times.

    The figures are a snapshot that the scheduler writes every few steps, and the HTTP server goes on giving the last
    one when the scheduler hangs. An idle engine writes none, so this is asked for busy engines only.
    """
    written = [row["timestamp"] for row in rows if row.get("timestamp")]
    if not written or not answer.get("timestamp"):
        return 0.0
    answered = datetime.fromisoformat(answer["timestamp"]).timestamp()
    return round(max(answered - min(map(float, written)), 0.0), 1)


def _aggregate(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> EngineLoad:
    disaggregation = [row.get("disaggregation") or {} for row in rows]
    busy_us = _optional(rows, "total_prefill_busy_us")
    hit_rates = [float(row["cache_hit_rate"]) for row in rows if row.get("cache_hit_rate") is not None]
    waiting_tokens = _optional(rows, "num_waiting_uncached_tokens")
    prefilled = _optional(rows, "total_prefill_uncached_tokens")
    queues: dict[str, Any] = {f: sum(int(part.get(key, 0)) for part in disaggregation) for f, key in names.items()}
    capacities = [int(row["max_total_num_tokens"]) for row in rows]
    if min(capacities) <= 0:
        raise MalformedError("max_total_num_tokens is 0: the scheduler has published nothing yet")
    return EngineLoad(
        running_requests=_sum(rows, "num_running_reqs"),
        waiting_requests=_sum(rows, "num_waiting_reqs"),
        used_tokens=_sum(rows, "num_used_tokens"),
        max_total_tokens=sum(capacities),
        max_running_requests=_sum(rows, "max_running_requests"),
        waiting_uncached_tokens=None if waiting_tokens is None else int(waiting_tokens),
        prefill_uncached_tokens_total=None if prefilled is None else int(prefilled),
        prefill_busy_s_total=None if busy_us is None else busy_us / 1e6 / len(rows),
        decode_moments=_moments([row.get("decode_moments") for row in rows]),
        cache_hit_rate=sum(hit_rates) / len(hit_rates) if hit_rates else None,
        **queues,
    )


def _sum(rows: Sequence[Mapping[str, Any]], key: str) -> int:
    values = [int(row[key]) for row in rows]
    if min(values) < 0:
        raise MalformedError(f"{key} is negative")
    return sum(values)


def _optional(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [row.get(key) for row in rows]
    return None if any(value is None for value in values) else float(sum(values))  # type: ignore[arg-type]


def _moments(sums: Sequence[Sequence[float] | None]) -> tuple[float, ...] | None:
    if any(part is None for part in sums):
        return None
    return tuple(float(sum(column)) for column in zip(*(part or () for part in sums), strict=True))


def _state(answer: Mapping[str, Any]) -> EngineState:
    running = tuple(RunningStream(int(s["prompt_tokens"]), int(s["age_tokens"])) for s in answer["running"])
    totals = answer.get("totals") or {}
    return EngineState(
        at=_time_s(answer["at"]),
        started_at=_time_s(answer["started_at"]),
        queued_tokens=int(answer["queued_tokens"]),
        arrivals=tuple(
            ArrivalBin(
                int(b["at"]), _class(b["class"]), int(b["count"]), int(b["prompt_tokens"]), int(b["cached_tokens"])
            )
            for b in answer["arrivals"]
        ),
        running=running,
        running_total=int(answer.get("running_total", len(running))),
        finished=tuple(_finished(row) for row in answer["finished"]),
        arrivals_total=int(totals.get("arrivals", 0)),
        finished_total=int(totals.get("finished", 0)),
    )


def _finished(row: Mapping[str, Any]) -> FinishedRequest:
    waits = (None if row.get(name) is None else float(row[name]) for name in ("ttft_s", "tpot_s"))
    return FinishedRequest(_class(row["class"]), int(row["prompt_tokens"]), int(row["output_tokens"]), *waits)


def _class(value: Any) -> int:
    kind = int(value)
    if not 0 <= kind < LENGTH_CLASSES:
        raise MalformedError(f"length class {kind} is not within 0..{LENGTH_CLASSES - 1}")
    return kind


def _time_s(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise MalformedError(f"{seconds} is no time")
    return seconds


def _host(url: str) -> str:
    """The host of a worker's URL; a data-parallel worker has its rank after an @: http://10.0.0.1:30000@2."""
    host = urlsplit(url.rpartition("@")[0] or url).hostname
    if not host:
        raise MalformedError(f"{url!r} is not a URL")
    return host


def _why(error: Exception) -> str:
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)
