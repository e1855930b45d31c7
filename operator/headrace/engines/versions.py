"""Which of SGLang's figures mean what, by release: one table, read from the sources of the releases 0.5.8 to 0.5.23.

A figure that is always 0 looks like an idle engine. So a row says from which release on a figure is there, and in which
mode of which release it is dead; the parser turns what is dead into "not known". A release newer than the table is read
like the newest in it, an older one like the oldest, and both are noted on the sample.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

Version = tuple[int, int, int]

OLDEST: Version = (0, 5, 8)
NEWEST: Version = (0, 5, 23)
AGGREGATED, PREFILL, DECODE = "null", "prefill", "decode"  # SGLang's disaggregation modes
_ALL = (AGGREGATED, PREFILL, DECODE)


class Fate(StrEnum):
    """What a figure is worth."""

    LIVE = "live"
    DEAD = "dead"  # there, and it says nothing: read as not known
    CAVEAT = "caveat"  # live, with something to know about it
    RENAMED = "renamed"  # `source` is its name in these releases


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in some releases. `signal`: the field of EngineLoad, empty where Headrace does not read it."""

    signal: str
    source: str  # /v1/loads: the field of a rank's row; sglang: a metric's name
    fate: Fate
    note: str
    since: Version = OLDEST  # the first release
    before: Version | None = None  # the first release for which it no longer holds
    modes: Sequence[str] = _ALL

    def holds(self, version: Version, mode: str | None = None) -> bool:
        """Whether the row is about this release and mode; None: any mode."""
        released = self.since <= version and (self.before is None or version < self.before)
        return released and (mode is None or mode in self.modes)


TABLE: tuple[Row, ...] = (
    Row("running_requests", "/v1/loads num_running_reqs", Fate.LIVE, "requests of the running batch"),
    Row("running_requests", "/v1/loads num_running_reqs", Fate.CAVEAT,
        "0 while it prefills: a prefill engine has no running batch", modes=(PREFILL,)),
    Row("waiting_requests", "/v1/loads num_waiting_reqs", Fate.LIVE,
        "bootstrap, prealloc, transfer and retracted queues are folded in"),
    Row("used_tokens", "/v1/loads num_used_tokens", Fate.LIVE, "evictable prefix cache counts as free"),
    Row("max_total_tokens", "/v1/loads max_total_num_tokens", Fate.LIVE, "of one data-parallel rank"),
    Row("max_total_tokens", "/v1/loads max_total_num_tokens", Fate.CAVEAT,
        "0, like all of the row, until the scheduler has published its first snapshot: not idle but not known",
        since=(0, 5, 13)),
    Row("max_running_requests", "/v1/loads max_running_requests", Fate.LIVE, "of one data-parallel rank"),
    Row("waiting_uncached_tokens", "/v1/loads num_waiting_uncached_tokens", Fate.LIVE,
        "sgl-project/sglang#27174; the whole prompt where the prefix cache is not matched in the queue",
        since=(0, 5, 13), modes=(AGGREGATED, PREFILL)),
    Row("waiting_uncached_tokens", "/v1/loads num_waiting_uncached_tokens", Fate.DEAD,
        "0 by definition on a decode engine", since=(0, 5, 13), modes=(DECODE,)),
    Row("prefill_uncached_tokens_total", "/v1/loads total_prefill_uncached_tokens", Fate.LIVE,
        "the step counters came with this release", since=(0, 5, 17), modes=(AGGREGATED, PREFILL)),
    Row("prefill_uncached_tokens_total", "/v1/loads total_prefill_uncached_tokens", Fate.DEAD,
        "stays 0: a decode engine gets its prompts prefilled", since=(0, 5, 17), modes=(DECODE,)),
    Row("prefill_busy_s_total", "/v1/loads total_prefill_busy_us", Fate.LIVE,
        "the step counters came with this release", since=(0, 5, 17), modes=(AGGREGATED, PREFILL)),
    Row("prefill_busy_s_total", "/v1/loads total_prefill_busy_us", Fate.DEAD,
        "stays 0: a decode engine gets its prompts prefilled", since=(0, 5, 17), modes=(DECODE,)),
    Row("decode_moments", "/v1/loads decode_moments", Fate.LIVE,
        "null until two decode steps followed each other; always null on a prefill engine", since=(0, 5, 17)),
    Row("cache_hit_rate", "/v1/loads cache_hit_rate", Fate.LIVE, "share of the last prefill batch, not a mean",
        since=(0, 5, 20), modes=(AGGREGATED,)),
    Row("cache_hit_rate", "/v1/loads cache_hit_rate", Fate.LIVE, "share of the last prefill batch, not a mean",
        modes=(PREFILL,)),
    Row("cache_hit_rate", "/v1/loads cache_hit_rate", Fate.DEAD,
        "every decode report sets it to 0, so it is 0 most of the time", before=(0, 5, 20), modes=(AGGREGATED,)),
    Row("cache_hit_rate", "/v1/loads cache_hit_rate", Fate.DEAD, "nothing is prefilled, so it stays 0",
        modes=(DECODE,)),
    Row("prefill_bootstrap_requests", "/v1/loads prefill_bootstrap_queue_reqs", Fate.LIVE,
        "requests that wait for a decode engine's answer", since=(0, 5, 12)),
    Row("prefill_bootstrap_requests", "/v1/loads prefill_prealloc_queue_reqs", Fate.RENAMED,
        "the name until 0.5.11; the metric sglang:num_prefill_prealloc_queue_reqs likewise", before=(0, 5, 12)),
    Row("", "sglang:utilization", Fate.DEAD, "what it is a share of is never set: 0, and -1 on a prefill engine",
        since=(0, 5, 12)),
    Row("", "sglang:gen_throughput", Fate.CAVEAT, "means nothing on a prefill engine (sgl-project/sglang#22494)",
        modes=(PREFILL,)),
    Row("", "sglang:num_retracted_reqs", Fate.CAVEAT, "counts since the last report, not now: use the _total"),
    Row("", "sglang:engine_startup_time", Fate.DEAD, "0; startup_time_seconds is live since 0.5.17",
        before=(0, 5, 17)),
    Row("", "sglang:forward_execution_seconds_total", Fate.CAVEAT,
        "has values only with SGLang's device timer switched on", since=(0, 5, 11)),
    Row("", "sglang:time_to_first_token_seconds", Fate.DEAD, "a prefill engine observes none", modes=(PREFILL,)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadAs:
    """The release whose rows an engine is read by. `stands_in`: it is not the engine's own."""

    version: Version
    stands_in: bool


def read_as(told: str) -> ReadAs:
    """The rows for the version that an engine tells: 0.5.23.post1 and 0.5.23rc1 are read like 0.5.23.

    What tells no release number (a build from source says 0.0.0 or a commit) is taken for the newest.
    """
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", told)
    version = (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)
    if version == (0, 0, 0):
        return ReadAs(NEWEST, stands_in=True)
    kept = min(max(version, OLDEST), NEWEST)
    return ReadAs(kept, stands_in=kept != version)


@cache  # asked for each engine at each tick
def dead(version: Version, mode: str) -> frozenset[str]:
    """The fields of EngineLoad that say nothing in this release and disaggregation mode."""
    return frozenset(row.signal for row in TABLE if row.signal and row.fate is Fate.DEAD and row.holds(version, mode))


@cache
def renamed(version: Version) -> Mapping[str, str]:
    """The fields of EngineLoad that have another name in this release's /v1/loads, and that name."""
    return {row.signal: row.source.split()[-1] for row in TABLE if row.fate is Fate.RENAMED and row.holds(version)}


def text(version: Version) -> str:
    """0.5.23"""
    return ".".join(map(str, version))
