"""What is written down about a cluster between runs, and the locks that keep runs apart."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from headrace_cluster.layout import Layout, clusters_dir


@dataclass(frozen=True, slots=True)
class Record:
    """What `up` decided, kept in the cluster's state; `index` is None for an existing cluster's context.

    `usable` turns true when `up` has seen every gate open: a run that was killed before leaves it false.
    """

    index: int | None
    usable: bool = False
    kube_context: str | None = None
    prometheus: bool = False
    models: str | None = None


def read_record(layout: Layout) -> Record | None:
    """The record, or None when there is none or a killed run left half of one."""
    try:
        return Record(**json.loads(layout.record.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_record(layout: Layout, record: Record) -> None:
    """Write the record as JSON."""
    layout.record.write_text(json.dumps(asdict(record)))


@contextmanager
def alone(lock: str) -> Iterator[None]:
    """Hold the named lock; the kernel frees it when the process ends, however it ends."""
    clusters_dir().mkdir(parents=True, exist_ok=True)
    with (clusters_dir() / lock).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
