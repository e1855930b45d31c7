"""What the robustness benchmark varies about a cell: readings, capacity model, start-up, parts of the autoscaler."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from e2e.benchmarks.ablations import ABLATIONS, AblatedPolicy, PinnedPolicy
from e2e.benchmarks.registry import TICK_LAG_S
from headrace.simulator.cell import Cell, limits
from headrace.simulator.headrace_policy import HeadracePolicy
from headrace.simulator.observe import MetricFaults
from headrace.simulator.results import Slo

REFERENCE_DELAY_S = 60.0
CLIFF_DELAYS_S = (10.0, 60.0, 120.0, 180.0, 300.0)
MODEL_ERROR = 0.3  # the capacity model believes that everything takes 0.7 or 1.3 times as long


@dataclass(frozen=True, slots=True)
class Variant:
    """One way in which a run differs from the reference."""

    name: str
    about: str
    delay_s: float = REFERENCE_DELAY_S
    delay_cv: float = 0.0
    start_failure: float = 0.0
    lag_s: float = TICK_LAG_S
    loss: float = 0.0
    model_factor: float = 1.0  # on all times that the capacity model believes in
    pinned: bool = False  # ... and no measurement corrects it
    ablation: str = ""

    def cell(self, base: Cell) -> Cell:
        """The cell as this variant has it."""
        return replace(
            base,
            delay_s=self.delay_s,
            delay_cv=self.delay_cv,
            start_failure=self.start_failure,
            faults=MetricFaults(lag_s=self.lag_s, loss=self.loss),
        )

    def policy(self, cell: Cell, slo: Slo) -> HeadracePolicy:
        """Headrace with what this variant changes about it."""
        model, bounds = cell.profile.prior().distorted(self.model_factor), limits(cell, slo)
        if self.ablation:
            return AblatedPolicy(model, bounds, ABLATIONS[self.ablation])
        return (PinnedPolicy if self.pinned else HeadracePolicy)(model, bounds)


def _model(word: str, factor: float) -> list[Variant]:
    wrong = f"model {MODEL_ERROR:.0%} too {word}"
    return [
        Variant(f"model-{word}", f"{wrong}, calibrated online", model_factor=factor),
        Variant(f"model-{word}-pinned", f"{wrong}, never corrected", model_factor=factor, pinned=True),
    ]


REFERENCE = Variant("reference", f"start-up {REFERENCE_DELAY_S:g} s, readings {TICK_LAG_S:g} s old")
FAULTS = Variant("lag-loss", "readings 15 s old, 5 % of scrapes missing", lag_s=15.0, loss=0.05)
MODELS = (*_model("optimistic", 1.0 - MODEL_ERROR), *_model("pessimistic", 1.0 + MODEL_ERROR))
STARTS = Variant("starts", "2 % of starts fail, start-up lognormal with cv 0.3", delay_cv=0.3, start_failure=0.02)
CLIFF = tuple(
    Variant(f"start-up={delay_s:g}", f"start-up {delay_s:g} s", delay_s=delay_s)
    for delay_s in CLIFF_DELAYS_S
    if delay_s != REFERENCE_DELAY_S  # that is the reference
)
ABLATED = tuple(Variant(name, found.about, ablation=name) for name, found in ABLATIONS.items())


def variants(*, ablate: bool) -> Sequence[Variant]:
    """All variants in the order in which they are reported."""
    return (REFERENCE, FAULTS, *MODELS, STARTS, *CLIFF, *(ABLATED if ablate else ()))
