"""Progress on the terminal: a spinner with elapsed time on a TTY, one line with the duration everywhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Report:
    """Where steps are shown; `quiet` shows nothing (used by tests and the Python API)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def line(self, text: str) -> None:
        """One line of text."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str, *, slow: bool = False) -> Iterator[None]:
        """Show `text` while the block runs and how long it took after it succeeded.

        A `slow` step (minutes) is also announced in a log, where the spinner can't show that something goes on.
        """
        begun = time.perf_counter()
        if slow and not self.console.is_terminal:
            self.line(f"  {text} ...")
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            bar.add_task(text, total=None)
            yield
        self.line(f"  {text}: {time.perf_counter() - begun:.1f} s")
