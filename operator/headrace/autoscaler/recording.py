"""What a time-series database kept of a service, and the engines' reports again from the engines' counters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from headrace.autoscaler.signals import ArrivalBin, EngineState, FinishedRequest
from headrace_engine_config.length_class import length_class

Column = Mapping[float, float]  # tick, epoch seconds -> value
Table = Mapping[str, Mapping[str, Column]]  # figure -> series -> column

ARRIVALS_S = 120  # what an engine itself remembers of arrivals
FINISHED_KEPT = 256  # and of finished requests


@dataclass(frozen=True, slots=True)
class Recording:
    """One service at regular ticks. A value that is not there was not known."""

    service: str  # namespace/name
    ticks: Sequence[float]
    engines: Table  # series: pod
    own: Table  # what the operator published; series: role, role/state, role/constraint, or the name of a number
    sums: Table  # over the whole service; series: ""

    def at(self, figure: str, tick: float) -> dict[str, float]:
        """The operator's values of one figure at a tick, by series."""
        return {series: column[tick] for series, column in self.own.get(figure, {}).items() if tick in column}

    def role_of(self, pod: str) -> str:
        """The role in a pod's name: `chat-prefill-5d9f-x2x4p` of default/chat is prefill."""
        return pod[len(self.service.partition("/")[2]) + 1 :].partition("-")[0]


@dataclass(frozen=True, slots=True)
class Totals:
    """An engine's counters at one scrape."""

    at: float
    queued_tokens: float
    running: float
    arrivals: float
    prompt_tokens: float
    cached_tokens: float
    finished: float
    output_tokens: float


def states(scrapes: Sequence[Totals], *, from_start: bool) -> list[EngineState]:
    """What the engine would have reported at each scrape, as far as sums say it.

    Requests between two scrapes are spread evenly and are all alike; so are the answers. `from_start`: the engine
    started within the recording, so its first counters are all news.
    """
    if not scrapes:
        return []
    first = scrapes[0]
    zero = Totals(first.at - 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    before = zero if from_start else first
    arrivals: list[ArrivalBin] = []
    finished: list[FinishedRequest] = []
    found = []
    for old, new in pairwise([before, *scrapes]):
        arrivals = [bin_ for bin_ in arrivals if bin_.at_s >= new.at - ARRIVALS_S] + _arrived(old, new)
        finished = (finished + _finished(old, new))[-FINISHED_KEPT:]
        found.append(
            EngineState(
                at=new.at,
                started_at=first.at,
                queued_tokens=round(new.queued_tokens),
                arrivals=tuple(arrivals),
                running_total=round(new.running),
                finished=tuple(finished),
                arrivals_total=round(new.arrivals),
                finished_total=round(new.finished),
            )
        )
    return found


def _arrived(old: Totals, new: Totals) -> list[ArrivalBin]:
    """The requests between two scrapes, evenly over the seconds that are complete at the second one.

    5 requests of 1,000 tokens each between 10.2 and 20.2: seconds 10..19, one every other second.
    """
    count = round(_grown(old.arrivals, new.arrivals))
    if count <= 0:
        return []
    prompt, cached = _grown(old.prompt_tokens, new.prompt_tokens), _grown(old.cached_tokens, new.cached_tokens)
    first, last = math.floor(old.at), max(math.floor(new.at) - 1, math.floor(old.at))
    seconds = last - first + 1
    kind = length_class(round(prompt / count))
    found = []
    done = 0
    for passed in range(1, seconds + 1):
        upto = (2 * count * passed + seconds) // (2 * seconds) if passed < seconds else count
        if upto > done:
            part = [round(total * upto / count) - round(total * done / count) for total in (prompt, cached)]
            found.append(ArrivalBin(first + passed - 1, kind, upto - done, *part))
            done = upto
    return found


def _finished(old: Totals, new: Totals) -> list[FinishedRequest]:
    count = round(_grown(old.finished, new.finished))
    if count <= 0:
        return []
    arrived = max(_grown(old.arrivals, new.arrivals), 1.0)
    prompt = round(_grown(old.prompt_tokens, new.prompt_tokens) / arrived)
    output = round(_grown(old.output_tokens, new.output_tokens) / count)
    return [FinishedRequest(length_class(prompt), prompt, output)] * min(count, FINISHED_KEPT)


def _grown(old: float, new: float) -> float:
    """How much a counter grew; one that fell began anew."""
    return new - old if new >= old else new
