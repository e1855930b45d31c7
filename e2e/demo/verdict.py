"""Whether the demo showed what it is for. Pure; a missing figure is never a pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from e2e.demo.record import ROLES, RoleCount, RunRecord, Sample
from e2e.load.results import Outcome

GROWN = 2  # serving replicas that count as grown: the sample starts with one and may have two
REST = 1  # replicas at rest: the sample's min


@dataclass(frozen=True, slots=True)
class RoleStory:
    """When a role had grown and when it was back. Epoch seconds; None: it never was."""

    role: str
    grew_at: float | None
    shrank_at: float | None
    peak: int
    last: int


def story(samples: Sequence[Sample], role: str) -> RoleStory:
    """Grown: two pods served. Shrunk: after that only one pod existed, and nothing drained or started any more."""
    grew_at = shrank_at = None
    peak = 0
    for sample in samples:
        count = sample.counts.get(role, RoleCount())
        peak = max(peak, count.serving)
        if grew_at is None and count.serving >= GROWN:
            grew_at = sample.at
        elif grew_at is not None and shrank_at is None and count.serving == count.total == REST:
            shrank_at = sample.at
    last = samples[-1].counts.get(role, RoleCount()).total if samples else 0
    return RoleStory(role, grew_at, shrank_at, peak, last)


def all_grown(samples: Sequence[Sample]) -> bool:
    """Whether every role has grown."""
    return all(story(samples, role).grew_at is not None for role in ROLES)


def all_shrunk(samples: Sequence[Sample]) -> bool:
    """Whether every role has grown and shrunk again."""
    return all(story(samples, role).shrank_at is not None for role in ROLES)


def shortcomings(record: RunRecord) -> list[str]:
    """Why the demo did not succeed, each in a sentence; empty: it did."""
    found = list(record.errors)
    if not record.phases:
        return found or ["no load was offered"]  # what follows from that needs no sentence of its own
    for role in ROLES:
        told = story(record.samples, role)
        if told.grew_at is None:
            found.append(f"{role} never had {GROWN} serving replicas (at most {told.peak})")
        elif told.shrank_at is None:
            found.append(f"{role} did not come back to {REST} replica (at the end {told.last})")
    if not record.results:
        found.append("no request was answered")
    for outcome in (Outcome.FAILED, Outcome.TRUNCATED):
        bad = [result for result in record.results if result.outcome is outcome]
        if bad:
            found.append(f"{len(bad)} of {len(record.sent_at)} requests {outcome}; the first: {bad[0].error}")
    if record.unanswered:
        found.append(f"{record.unanswered} of {len(record.sent_at)} requests were still open at the end")
    return found
