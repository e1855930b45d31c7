"""The bounded log of every decision with all that went into it: JSON lines in files of a folder, for `headrace replay`.

A thread of its own encodes and writes, so that neither a slow disk nor a full one touches the loop that decides.
"""

import threading
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from typing import BinaryIO

import orjson
import structlog

from headrace.autoscaler.memory import Memory
from headrace.autoscaler.replay import Tick, to_line

log = structlog.get_logger(__name__)

FILES = 8  # kept at most: removing the oldest then loses an eighth of what is known
PREFIX, SUFFIX = "decisions-", ".jsonl"
WAITING = 1024  # ticks in memory at most: one round of a thousand services
HOLDS_S = 3600.0  # an incident is looked into within the hour: beyond that, services are left out rather than hours
CLOSE_S = 2.0  # for the last lines when the process ends


class DecisionLog:
    """`put` from the loop; never blocks, never raises. What can't be written is lost, and said once."""

    def __init__(self, folder: Path, total_bytes: int, waiting: int = WAITING) -> None:
        self._segments = Segments(folder, total_bytes)
        self._queue: Queue[Tick | None] = Queue(waiting)
        self._thread: threading.Thread | None = None
        self._total_bytes = total_bytes
        self._last: dict[str, Memory] = {}  # per service, the memory that the last line in the current file led to
        self._line_bytes: dict[str, int] = {}  # per service in the current file
        self._failing = False
        self._dropping = False
        self._crowded = False

    def put(self, tick: Tick) -> None:
        """Log one tick later. A tick that finds the queue full is dropped."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(tick)
        except Full:
            if not self._dropping:
                log.warning("decision log falls behind: ticks are dropped", waiting=self._queue.maxsize)
            self._dropping = True
        else:
            self._dropping = False

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        if self._thread is None:
            return
        with suppress(Full):
            self._queue.put_nowait(None)
            self._thread.join(CLOSE_S)
        self._thread = None

    def _run(self) -> None:
        while (tick := self._queue.get()) is not None:
            try:
                self._write(tick)
            except Exception as error:  # a full disk, a folder that is not ours, a value nobody foresaw
                self._segments.close()
                if not self._failing:
                    log.warning("decision log can't be written, decisions go on", error=repr(error))
                self._failing = True
            else:
                if self._failing:
                    log.info("decision log is written again")
                self._failing = False
        self._segments.close()

    def _write(self, tick: Tick) -> None:
        if self._segments.ready():
            self._last.clear()
            self._line_bytes.clear()
        service = tick.signals.service
        if not self._has_room(service, tick.limits.tick_s):
            return
        # By identity: a restart, a new spec or a lost line all give a memory that the last line did not lead to.
        begin = self._last.pop(service, None) is not tick.memory
        line = orjson.dumps(to_line(tick, begin), option=orjson.OPT_NON_STR_KEYS) + b"\n"
        self._segments.append(line)
        self._last[service] = tick.plan.memory
        self._line_bytes[service] = len(line)

    def _has_room(self, service: str, tick_s: float) -> bool:
        """Whether the log holds an hour with one more service. Bytes an hour also bound the CPU time of this thread.

        128 MiB: 186 kB a tick of 5 s, five services of four busy engines, 4 ms of CPU time.
        """
        if service in self._line_bytes or sum(self._line_bytes.values()) * HOLDS_S / tick_s < self._total_bytes:
            return True
        if not self._crowded:
            log.warning(
                "decision log has no room for all services; raise HEADRACE_DECISION_LOG_BYTES to log them too",
                logged=len(self._line_bytes),
                left_out=service,
            )
        self._crowded = True
        return False


class Segments:
    """Files `decisions-00000001.jsonl`, ... of bounded size, of which the newest eight are kept."""

    def __init__(self, folder: Path, total_bytes: int) -> None:
        self._folder = folder
        self._file_bytes = max(total_bytes // FILES, 1)
        self._file: BinaryIO | None = None

    def ready(self) -> bool:
        """Make a file writable. True: it was just opened, so nothing in it leads to the next line. Raises OSError."""
        if self._file is not None and self._file.tell() < self._file_bytes:
            return False
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        known = files_of(self._folder)
        if known and known[-1].stat().st_size < self._file_bytes:  # a restart, or a disk that was full
            self._file = known[-1].open("ab", buffering=0)
            if self._file.tell():
                self.append(b"\n")  # ends a line that was cut short; readers skip empty ones
            return True
        for old in known[: max(len(known) + 1 - FILES, 0)]:
            old.unlink()
        number = int(known[-1].name[len(PREFIX) : -len(SUFFIX)]) + 1 if known else 1
        self._file = (self._folder / f"{PREFIX}{number:08d}{SUFFIX}").open("ab", buffering=0)
        return True

    def append(self, line: bytes) -> None:
        """Write bytes. Raises OSError, also where only a part could be written."""
        assert self._file is not None  # noqa: S101  ready() opened it
        written = self._file.write(line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes could be written")

    def close(self) -> None:
        """Close the file; the next line opens one."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file = None


def files_of(folder: Path) -> list[Path]:
    """The log's files, oldest first."""
    return sorted(path for path in folder.glob(f"{PREFIX}*{SUFFIX}") if path.name[len(PREFIX) : -len(SUFFIX)].isdigit())
