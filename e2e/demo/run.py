"""The load itself: low, high until both pools grew, low until both shrank; and the live view beside it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from e2e.demo.record import PhaseSpan, RunRecord, Sample
from e2e.demo.script import SERVED_NAME, Script
from e2e.demo.setup import DemoError
from e2e.demo.table import LoadView, line, render
from e2e.demo.verdict import all_grown, all_shrunk
from e2e.demo.watch import Watcher, watching
from e2e.load.clock import wall_clock
from e2e.load.generator import LoadGenerator
from e2e.load.phases import Phase
from e2e.load.prompts import PromptMaker, tokenizer_of
from e2e.load.results import Outcome, quantile

VIEW_S = 15.0  # the live figures are over the last seconds: long enough for a quantile at a few requests a second
LINE_EVERY_S = 10.0  # one line in a log


@dataclass(frozen=True, slots=True)
class Target:
    """What the load is offered to, and where its signals are read."""

    url: str
    name: str  # of the InferenceService
    model: Path
    prometheus_url: str


async def run(script: Script, target: Target, record: RunRecord, out: Path, console: Console) -> None:
    """Offer the whole load; the record is filled also where it ends early."""
    prompts = PromptMaker(tokenizer_of(target.model), script.seed)
    with (out / "requests.jsonl").open("wb") as file:
        load = LoadGenerator(
            target.url,
            SERVED_NAME,
            prompts,
            seed=script.seed,
            max_in_flight=script.max_in_flight,
            timeout_s=script.request_timeout_s,
            results_file=file,
        )
        record.results, record.sent_at = load.results, load.sent_at
        async with load, watching(target.name, target.prometheus_url, record) as watcher:
            await _first_answer(load, script)
            show = asyncio.create_task(_show(record, load, console))
            try:
                await _phases(script, load, watcher, record)
            finally:
                show.cancel()
                record.unanswered = load.in_flight


async def _first_answer(load: LoadGenerator, script: Script) -> None:
    """The gateway finds its engines a few seconds after they are Ready; the load begins with the first whole answer."""
    for _ in range(30):
        probe = await load.probe(script.low.prompt_tokens, 4)
        if probe.outcome is Outcome.OK:
            return
        await asyncio.sleep(2)
    raise DemoError(f"the gateway did not answer a first request: {probe.error}")


async def _phases(script: Script, load: LoadGenerator, watcher: Watcher, record: RunRecord) -> None:
    warm = Phase("warm", script.low.rate_rps, script.warm_s, script.low.prompt_tokens, script.low.output_tokens)
    await _phase(warm, load, watcher, record, None)
    await _phase(script.high, load, watcher, record, lambda: all_grown(record.samples))
    if all_grown(record.samples):
        held = Phase("held", script.high.rate_rps, script.hold_s, script.high.prompt_tokens, script.high.output_tokens)
        await _phase(held, load, watcher, record, None)
        await _phase(script.low, load, watcher, record, lambda: all_shrunk(record.samples))
    await load.finish(script.request_timeout_s)


async def _phase(
    phase: Phase, load: LoadGenerator, watcher: Watcher, record: RunRecord, ended: Callable[[], bool] | None
) -> None:
    watcher.phase = phase.name
    begun = wall_clock()
    stop = asyncio.Event()
    guard = asyncio.create_task(_stop_when(ended, watcher, stop)) if ended else None
    try:
        await load.run_phase(phase, stop)
    finally:
        if guard:
            guard.cancel()
        span = PhaseSpan(phase.name, begun, wall_clock(), phase.rate_rps, phase.prompt_tokens, phase.output_tokens)
        record.phases.append(span)


async def _stop_when(ended: Callable[[], bool], watcher: Watcher, stop: asyncio.Event) -> None:
    while not ended():
        watcher.changed.clear()
        await watcher.changed.wait()
    stop.set()


async def _show(record: RunRecord, load: LoadGenerator, console: Console) -> None:
    begun = wall_clock()
    with _display(console) as update:
        while True:
            if record.samples:
                now = wall_clock()
                update(record.samples[-1], view(load.sent_at, load, now), now - begun)
            await asyncio.sleep(1.0)


def view(sent_at: Sequence[float], load: LoadGenerator, now: float) -> LoadView:
    """The load over the last VIEW_S seconds."""
    recent = [result for result in load.results if result.ended_at > now - VIEW_S]
    whole = [result for result in recent if result.outcome is Outcome.OK]
    return LoadView(
        offered_rps=sum(at > now - VIEW_S for at in sent_at) / VIEW_S,
        served_rps=len(whole) / VIEW_S,
        in_flight=load.in_flight,
        sent=len(sent_at),
        failed=sum(result.outcome is Outcome.FAILED for result in load.results),
        truncated=sum(result.outcome is Outcome.TRUNCATED for result in load.results),
        ttft_p95_s=quantile([result.ttft_s for result in whole if result.ttft_s is not None], 0.95),
        itl_p95_s=quantile([gap for result in whole for gap in result.gaps_s], 0.95),
    )


@contextmanager
def _display(console: Console) -> Iterator[Callable[[Sample, LoadView, float], None]]:
    """On a terminal a table in place; elsewhere a line every LINE_EVERY_S."""
    if not console.is_terminal:
        last = [-LINE_EVERY_S]

        def print_line(sample: Sample, load: LoadView, elapsed_s: float) -> None:
            if elapsed_s - last[0] >= LINE_EVERY_S:
                last[0] = elapsed_s
                console.print(line(sample, load, elapsed_s), markup=False, highlight=False, soft_wrap=True)

        yield print_line
        return
    first: RenderableType = Text("waiting for the first sample")
    with Live(first, console=console, refresh_per_second=2) as live:
        yield lambda sample, load, elapsed_s: live.update(render(sample, load, elapsed_s))
