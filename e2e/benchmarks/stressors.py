"""Synthetic stress loads as Parquet traces: one for each way in which an autoscaler fails. See docs/benchmarks.md.

python -m e2e.benchmarks.stressors --out bench-out/stress/traces
python -m e2e.benchmarks.stressors --from my-scenarios.json --out DIR
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from e2e.benchmarks.scenario import GRID_S, Floats, Scenario, curve, read
from headrace.simulator.prefix_cache import BLOCK_TOKENS

COMMITTED = Path(__file__).with_name("stressors.json")
UNIT_RPS = 8.0  # requests/s of a level of 1: enough for a window of tens of thousands; the benchmark scales every load
GROUP_STRIDE = 1 << 20  # blocks a shared prefix may have before it meets the next one's numbers: half a billion tokens


def rates(scenario: Scenario, t: Floats, rng: np.random.Generator) -> Floats:
    """Requests per second at the times `t`, never below none; the noise is drawn anew every `noise_step_s`."""
    level = np.maximum(scenario.base + sum((term.at(t) for term in scenario.terms), np.zeros_like(t)), 0.0)
    steps = (t // scenario.noise_step_s).astype(np.int64)
    return UNIT_RPS * level * np.exp(rng.normal(0.0, scenario.noise_sigma, int(steps[-1]) + 1)[steps])


def arrivals(scenario: Scenario, rng: np.random.Generator) -> Floats:
    """Sorted times in seconds: a Gamma renewal process in operational time, that is one unit a request expected.

    With cv = 2 the times between arrivals have shape 1 / 4: most are short, some long, and their mean stays.
    """
    t = np.arange(0.0, scenario.duration_s + GRID_S, GRID_S)
    expected = np.concatenate(([0.0], np.cumsum(rates(scenario, t[:-1], rng) * GRID_S)))
    shape = 1.0 / scenario.cv**2
    # Ten standard deviations of their number beyond the expected one: the process has always reached the end then.
    number = int(expected[-1] + 10.0 * scenario.cv * np.sqrt(expected[-1]) + 10.0)
    operational = np.cumsum(rng.gamma(shape, 1.0 / shape, number))
    inside = operational[operational < expected[-1]]
    return np.asarray(np.interp(inside, expected, t), np.float64)


def write(scenario: Scenario, directory: Path) -> Path:
    """One realisation, with the scenario's first seed, as `stress_NAME.parquet`."""
    import pyarrow as pa  # noqa: PLC0415 - an extra of the simulator; the operator's image does without
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    rng = np.random.default_rng(scenario.seeds[0])
    t = arrivals(scenario, rng)
    weights = np.stack([kind.weights(t) for kind in scenario.classes])
    edges = np.cumsum(weights / weights.sum(axis=0), axis=0)
    kinds = (rng.random(len(t)) >= edges[:-1]).sum(axis=0)
    isl, osl = np.zeros(len(t), np.int32), np.zeros(len(t), np.int32)
    hashes: list[list[int] | None] = [None] * len(t)
    for index, kind in enumerate(scenario.classes):
        mine = np.flatnonzero(kinds == index)
        isl[mine] = kind.isl.draw(rng, curve(kind.scale_in, t[mine]))
        osl[mine] = kind.osl.draw(rng, curve(kind.scale_out, t[mine]))
        if kind.prefix is not None:
            blocks = kind.prefix.tokens // BLOCK_TOKENS
            for row, group in zip(mine, kind.prefix.draw(rng, len(mine)), strict=True):
                first = GROUP_STRIDE * (index * kind.prefix.groups + int(group))
                hashes[row] = list(range(first, first + min(blocks, int(isl[row]) // BLOCK_TOKENS)))
    columns = {"t": t, "input_tokens": isl, "output_tokens": osl}
    if any(hashes):
        columns["hash_ids"] = pa.array(hashes, pa.list_(pa.int64()))
    path = directory / f"stress_{scenario.name}.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Write the traces. 0 when all are written, 2 when the scenarios cannot be read."""
    parser = argparse.ArgumentParser(
        prog="stressors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from", dest="source", type=Path, default=COMMITTED, help="scenarios (default: the committed)"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory that the Parquet files go to")
    args = parser.parse_args(argv)
    try:
        scenarios = read(args.source)
        args.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        print(f"stressors: {error}", file=sys.stderr)
        return 2
    for scenario in scenarios:
        print(f"{write(scenario, args.out)}: {scenario.tests}")
        if scenario.model_extra:
            print(f"  not read: {', '.join(scenario.model_extra)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
