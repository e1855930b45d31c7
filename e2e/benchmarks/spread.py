"""Spreads simulations over processes, with a progress bar; every answer is kept at once."""

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from e2e.benchmarks.matrix import Scene
from e2e.benchmarks.store import Store
from e2e.benchmarks.work import find_scale


class Keyed(Protocol):
    """What has a stable name."""

    @property
    def key(self) -> str:
        """The name."""
        ...


Item = TypeVar("Item", bound=Keyed)
Found = TypeVar("Found")


def spread(
    title: str, workers: int, items: Sequence[Item],
    *, submit: Callable[[ProcessPoolExecutor, Item], "Future[Found]"], done: Callable[[Item, Found], None],
) -> list[str]:  # fmt: skip
    """Run `submit` for each item and hand every answer to `done`: an interruption loses only what was running.

    An item that fails does not keep the others from running; returns a sentence for each that did.
    """
    failed: list[str] = []
    if not items:
        return failed
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with ProcessPoolExecutor(workers) as pool, Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(title, total=len(items))
        futures = {submit(pool, item): item for item in items}
        try:
            for future in as_completed(futures):
                error = future.exception()
                if error is None:
                    done(futures[future], future.result())
                else:
                    failed.append(f"{futures[future].key}: {type(error).__name__}: {error}")
                bar.advance(task)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def find_scales(scenes: Iterable[Scene], store: Store, workers: int) -> list[str]:
    """The load scale of every scene that has none yet; a sentence for each scene that fails."""
    missing = {scene.key: scene for scene in scenes if scene.key not in store.scales}
    return spread(
        "load scales", workers, list(missing.values()),
        submit=lambda pool, scene: pool.submit(find_scale, scene),
        done=lambda scene, found: store.add_scale(scene.key, found),
    )  # fmt: skip
