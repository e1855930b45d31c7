"""What one run of the demo saw: the input of the table, the verdict, the report and the summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from e2e.load.results import Result

ROLES = ("prefill", "decode")


@dataclass(frozen=True, slots=True)
class RoleCount:
    """A role's pods at one moment, counted from the pods themselves."""

    serving: int = 0  # Ready, and the gateway may send to it
    starting: int = 0
    draining: int = 0

    @property
    def total(self) -> int:
        """All pods that exist."""
        return self.serving + self.starting + self.draining


@dataclass(frozen=True, slots=True)
class EngineSignals:
    """A role's engines as Prometheus shows them. None: not known."""

    running_requests: float | None = None  # sum over pods
    waiting_requests: float | None = None  # sum over pods
    kv_share: float | None = None  # mean over pods, 0..1


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision for one role that changed its target or wanted to."""

    at: str  # RFC 3339, as in the status
    role: str
    current: int | None
    target: int | None
    reason: str
    binding: str
    message: str
    vetoes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """The service at one moment."""

    at: float  # epoch seconds
    phase: str
    counts: Mapping[str, RoleCount]
    engines: Mapping[str, EngineSignals] = field(default_factory=dict)
    latest: Mapping[str, DecisionRow] = field(default_factory=dict)  # the newest decision by role


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A phase of the load as it was run."""

    name: str
    started_at: float
    ended_at: float
    rate_rps: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the demo and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Objective:
    """The service's SLO."""

    ttft_s: float
    tpot_s: float
    percentile: int


@dataclass(slots=True)
class RunRecord:
    """Everything, filled while the run goes on."""

    service: str
    topology: str = "Disaggregated"
    objective: Objective | None = None
    samples: list[Sample] = field(default_factory=list)
    phases: list[PhaseSpan] = field(default_factory=list)
    decisions: list[DecisionRow] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    sent_at: Sequence[float] = ()
    results: Sequence[Result] = ()
    unanswered: int = 0  # requests still open when the demo gave up waiting for them
    versions: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)  # what kept the demo from going on

    def note_decisions(self, rows: Sequence[DecisionRow]) -> None:
        """Add those not seen before: the status keeps only the last ten."""
        known = {(row.at, row.role) for row in self.decisions}
        self.decisions.extend(row for row in rows if (row.at, row.role) not in known)
        self.decisions.sort(key=lambda row: (row.at, row.role))
