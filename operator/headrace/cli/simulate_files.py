"""The files of `headrace simulate`: traces in, pictures out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from headrace.simulator.request import Arrival
from headrace.simulator.results import RunResult, Slo

_BATCH_ROWS = 65_536  # trace rows in memory at a time: 65,536 x 3 numbers, below 2 MB


class UnreadableTrace(ValueError):  # noqa: N818 - reads as what happened
    """The trace file lacks a column; the message names it."""


def read_trace(path: Path) -> Iterator[Arrival]:
    """The rows of a Parquet trace, lazily: t (s), input_tokens, output_tokens, optional hash_ids (512-token blocks)."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra of the simulator; the operator's image does without

    file = pq.ParquetFile(path)
    names = _columns(path, file.schema_arrow.names)
    columns = ["t", "input_tokens", "output_tokens", *(["hash_ids"] if "hash_ids" in names else [])]
    for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
        rows = [batch.column(name).to_pylist() for name in columns]
        for t, isl, osl, *hashes in zip(*rows, strict=True):
            yield Arrival(t, isl, osl, tuple(hashes[0]) if hashes and hashes[0] else None)


def _columns(path: Path, names: list[str]) -> set[str]:
    for needed in ("t", "input_tokens", "output_tokens"):
        if needed not in names:
            raise UnreadableTrace(f"{path}: no column {needed!r}; it has {', '.join(sorted(names))}")
    return set(names)


def trace_span_s(path: Path) -> float:
    """The time of the last row. Raises UnreadableTrace when a needed column is missing."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - see read_trace

    file = pq.ParquetFile(path)
    _columns(path, file.schema_arrow.names)
    last = 0.0
    for batch in file.iter_batches(_BATCH_ROWS, columns=["t"]):
        if batch.num_rows:
            last = float(batch.column(0)[batch.num_rows - 1].as_py())
    return last


def draw(result: RunResult, slo: Slo, title: str, path: Path) -> None:
    """Replicas, load and latencies over time."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra of the simulator; the operator's image does without

    mpl.use("agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    series = result.series
    minutes = [t / 60.0 for t in series.get("t_s", [])]
    figure, axes = plt.subplots(3, 1, figsize=(11, 8), sharex=True, layout="constrained")
    for name in series:
        if name.endswith(("_total", "_serving")):
            axes[0].step(minutes, series[name], where="post", label=name.replace("_", " "), alpha=0.8)
        elif name.endswith(("_queued_tokens",)):
            axes[1].plot(minutes, series[name], label=name.replace("_", " "))
    arrived = np.asarray(result.records.arrived) / 60.0
    axes[2].plot(arrived, result.records.ttft, ",", alpha=0.4)
    axes[2].axhline(slo.ttft_s, color="tab:red", linewidth=0.8)
    axes[2].set_yscale("log")
    for axis, label in zip(axes, ("replicas", "queued tokens", "TTFT, s"), strict=True):
        axis.set_ylabel(label)
    axes[0].legend(fontsize="small")
    axes[0].set_title(f"{title}: {result.policy}, {result.gpu_hours:.2f} GPU-h, {100 * result.attainment(slo):.1f} %")
    axes[2].set_xlabel("minutes")
    figure.savefig(path, dpi=110)
    plt.close(figure)
