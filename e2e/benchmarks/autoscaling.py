"""Policies x traces x start-up delays x objectives x seeds, on the simulator. See docs/benchmarks.md.

`make bench-autoscaling` runs everything and goes on where it stopped; QUICK=1 is the ten-minute version.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from e2e.benchmarks import fleets, plots, report, tune
from e2e.benchmarks.cells import cells
from e2e.benchmarks.fingerprint import code_digest, file_digest
from e2e.benchmarks.matrix import (
    BOUNDS,
    FULL_WINDOWS,
    QUICK_REQUESTS,
    REPLICAS,
    WINDOW_S,
    Job,
    Scene,
    full_scenes,
    jobs,
    quick_scenes,
)
from e2e.benchmarks.registry import BASELINES, HEADRACE, QUICK_BASELINES, entry
from e2e.benchmarks.spread import find_scales, spread
from e2e.benchmarks.store import Row, Store
from e2e.benchmarks.traces import DEFAULT_TRACES, files, judged, rows, tuned
from e2e.benchmarks.work import run_job
from headrace.cli.simulate_files import UnreadableTrace

QUICK_DELAYS = (60.0, 120.0)  # either side of the cliff that the published controllers fall off
TUNE_WINDOW_S = 1800.0
TUNE_REQUESTS = 60_000.0  # a tuning window may be smaller: it only ranks the values of one knob


def main(argv: Sequence[str] | None = None) -> int:
    """Run, report. 0 also when there are no traces: then it says so. 1 when a run failed: the others are reported."""
    args = _arguments(argv)
    if not files(args.traces):
        print(f"bench-autoscaling skipped: no Parquet traces in {args.traces}. Give a directory of them with TRACES=.")
        return 0
    store = Store(args.out / "tune" if args.tune else args.out)
    store.forget(set(args.again))
    if args.tune:
        return _tune(args, store)
    winners = tune.winners()
    if args.quick:
        scenes, problems = quick_scenes(args.traces, args.replicas)
    else:
        scenes, problems = full_scenes(args.traces, args.objectives, args.fleets, args.replicas)
    scenes = [s for s in scenes if not args.only or any(part in s.window.trace for part in args.only)]
    store.match({s.window.trace: file_digest(Path(s.window.path)) for s in scenes})
    failed = find_scales(scenes, store, args.jobs)
    usable = [scene for scene in scenes if store.scales.get(scene.key) is not None]
    todo = jobs(usable, args.delays, args.policies, winners, seeds=args.seeds, quick=args.quick and not args.sweep)
    failed += _run(todo, store, args.jobs)
    wanted = {job.key for job in todo}
    rows = [row for key, row in store.rows.items() if key in wanted]
    notes = [
        *_notes(args, scenes, store),
        *_older(rows),
        *(f"Left out: {p}." for p in problems),
        *(f"FAILED: {f}." for f in failed),
    ]
    text = report.write(rows, args.delays, winners, args.out, notes)
    plots.pareto(cells(rows, args.delays), args.out / "plots")
    print(text.split("## Attainment at")[0])
    print(f"Written: {args.out}/results.json, report.md, plots/")
    return 1 if failed else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-autoscaling", description=__doc__)
    parser.add_argument("--traces", type=Path, default=DEFAULT_TRACES, help="directory of Parquet traces")
    parser.add_argument("--out", type=Path, default=Path("bench-out/autoscaling"))
    parser.add_argument("--quick", action="store_true", help="6 windows, 2 delays, 1 seed, 7 baselines, their winners")
    parser.add_argument("--sweep", action="store_true", help="with --quick: the whole grid of every policy")
    parser.add_argument("--tune", action="store_true", help="choose the grid winners anew on windows never judged")
    parser.add_argument("--delays", type=_numbers, default=None, help="start-up delays in seconds, 10,60,120,300")
    parser.add_argument("--objectives", type=_words, default=list(fleets.OBJECTIVES))
    parser.add_argument("--fleets", type=_words, default=[fleets.MEASURED])
    parser.add_argument("--policies", type=_words, default=None, help="default: headrace and all baselines")
    parser.add_argument("--only", type=_words, default=[], help="parts of names of traces to keep")
    parser.add_argument("--again", type=_words, default=[], help="policies whose finished rows are run again")
    parser.add_argument("--replicas", type=int, default=REPLICAS, help="static replicas that the load is scaled to")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    args.delays = args.delays or (list(QUICK_DELAYS) if args.quick or args.tune else [10.0, 60.0, 120.0, 300.0])
    args.seeds = args.seeds or (1 if args.quick else 3)
    args.policies = args.policies or [HEADRACE, *(QUICK_BASELINES if args.quick else BASELINES)]
    try:
        for name in args.policies:
            entry(name)
        for name in args.objectives:
            fleets.slo(name)
        for name in args.fleets:
            fleets.fleet(name)
    except LookupError as error:
        parser.error(str(error.args[0]))
    return args


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def _words(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _run(todo: Iterable[Job], store: Store, workers: int) -> list[str]:
    missing = {job.key: job for job in todo if job.key not in store.rows}

    def submit(pool: ProcessPoolExecutor, job: Job) -> "Future[dict[str, Any]]":
        at = store.scales[job.scene.key]
        assert at is not None
        return pool.submit(run_job, job, at)

    return spread("runs", workers, list(missing.values()), submit=submit, done=lambda _job, row: store.add(row))


def _tune(args: argparse.Namespace, store: Store) -> int:
    scenes = []
    for path in files(args.traces):
        try:
            part = tuned(path, TUNE_WINDOW_S, judged(path, WINDOW_S, FULL_WINDOWS))
            if part is not None:
                rows(part)
        except UnreadableTrace as error:
            print(f"Left out: {error}.")
            continue
        if part is None or (args.only and not any(name in part.trace for name in args.only)):
            continue
        fleet = fleets.affordable(part, args.replicas, TUNE_REQUESTS, "ttft2")
        if fleets.attainable(fleet, part, "ttft2"):
            scenes.append(Scene(part, fleet, "ttft2", args.replicas))
    failed = find_scales(scenes, store, args.jobs)
    usable = [scene for scene in scenes if store.scales.get(scene.key) is not None]
    todo = tune.tuning_jobs(usable, args.delays, args.policies)
    failed += _run(todo, store, args.jobs)
    if failed:
        print("\n".join(f"FAILED: {what}" for what in failed))
        return 1
    wanted = {job.key for job in todo}
    found = tune.choose(row for key, row in store.rows.items() if key in wanted)
    tune.write(found, [scene.window.trace for scene in usable])
    print(f"{tune.WINNERS_PATH}: {len(found)} policies tuned on {', '.join(s.window.trace for s in usable)}")
    return 0


def _older(rows: Sequence[Row]) -> list[str]:
    """A note where the report mixes rows of this code with rows that other code made."""
    policies = sorted({row["policy"] for row in rows if row.get("code") != code_digest()})
    if not policies:
        return []
    return [f"Made by other code than today's, run again with --again: {', '.join(policies)}."]


def _notes(args: argparse.Namespace, scenes: Sequence[Scene], store: Store) -> list[str]:
    unmet = [scene.key for scene in scenes if store.scales.get(scene.key) is None]
    notes = [
        f"Load: each window scaled until static in hindsight at 95 % needs {args.replicas} replicas. "
        f"Start-up delays {', '.join(f'{d:g}' for d in args.delays)} s, {args.seeds} seed(s). Bounds "
        f"({', '.join(BOUNDS)}) are no baselines.",
    ]
    if args.quick:
        notes.append(
            f"Quick: one window of at most {WINDOW_S / 60:.0f} minutes a trace, on the measured fleet, or on the "
            f"slower one of the catalogue where the window would take more than {QUICK_REQUESTS:,.0f} requests; "
            "baselines with the grid winner of other windows, Headrace with its default."
        )
    if unmet:
        notes.append(f"Left out, static replicas attain 95 % at no load: {', '.join(unmet)}.")
    return notes


if __name__ == "__main__":
    sys.exit(main())
