"""The files of `headrace simulate`: traces in, pictures out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.simulator.request import Arrival
from headrace.simulator.results import RunResult, Slo

NEEDED = ("t", "input_tokens", "output_tokens")
_BATCH_ROWS = 65_536  # trace rows in memory at a time: 65,536 x 3 numbers, below 2 MB


class UnreadableTrace(ValueError):  # noqa: N818 - reads as what happened
    """The trace file cannot be used; the message names the file, the column and what is wrong."""


def read_trace(path: Path) -> Iterator[Arrival]:
    """The rows of a Parquet trace, lazily: t (s), input_tokens, output_tokens, optional hash_ids (512-token blocks)."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra of the simulator; the operator's image does without

    file = pq.ParquetFile(path)
    columns = [*NEEDED, *(["hash_ids"] if "hash_ids" in file.schema_arrow.names else [])]
    for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
        rows = [batch.column(name).to_pylist() for name in columns]
        for t, isl, osl, *hashes in zip(*rows, strict=True):
            yield Arrival(t, isl, osl, tuple(hashes[0]) if hashes and hashes[0] else None)


def trace_extent(path: Path, length_s: float | None = None) -> tuple[float, float]:
    """Where the trace's clock begins and how long it runs in seconds, so that the last request counts.

    A clock that at the first request is already beyond a whole window of `length_s` (without one, beyond the trace's
    own length) is one of epoch seconds and begins there; any other begins at 0. Raises UnreadableTrace.
    """
    t = trace_column(path, "t")
    if not len(t):
        raise UnreadableTrace(f"{path}: no rows")
    if (np.diff(t) < 0.0).any():
        raise UnreadableTrace(f"{path}: column 't' is not sorted; sort the rows by it")
    first, last = float(t[0]), float(t[-1])
    origin_s = first if first > (last - first if length_s is None else length_s) or first < 0.0 else 0.0
    return origin_s, last - origin_s + 1.0


def trace_column(path: Path, name: str) -> npt.NDArray[np.float64]:
    """A needed column as numbers. Raises UnreadableTrace that says what is wrong with it."""
    import pyarrow as pa  # noqa: PLC0415 - see read_trace
    import pyarrow.parquet as pq  # noqa: PLC0415 - see read_trace

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if name not in names:
            raise UnreadableTrace(f"{path}: no column {name!r}; it has {', '.join(names) or 'none'}")
        column = file.read(columns=[name]).column(0)
        values = column.cast(pa.float64()).to_numpy()
    except (pa.ArrowException, OSError) as error:
        raise UnreadableTrace(f"{path}: {name!r} cannot be read as numbers ({str(error).splitlines()[0]})") from error
    if column.null_count or not np.isfinite(values).all():
        raise UnreadableTrace(f"{path}: column {name!r} has missing values")
    if name != "t" and (values < 0.0).any():
        raise UnreadableTrace(f"{path}: column {name!r} has negative values")
    return np.asarray(values, dtype=np.float64)


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
