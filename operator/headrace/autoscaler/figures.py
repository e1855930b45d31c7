"""Limits and capacity as named numbers and back: how they are published as metrics, and read again by replay.

A name is the path of the field: `objective.ttft_s`, `prefill.max`, `steps.decode_base_s`. What is not set (None) has no
number. Evidence behind a capacity is left out: a replay takes the model as it was and does not calibrate it.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, get_type_hints

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.catalog.step_times import StepTimes

Figures = Mapping[str, float]
_PLAIN = {float, int, bool, float | None}


def limit_figures(limits: Limits) -> dict[str, float]:
    """Every number of the limits by its name."""
    found = _numbers(limits) | _numbers(limits.objective, "objective.")
    for role, part in limits.roles.items():
        found |= _numbers(part, f"{role.value}.")
    return found


def limits_of_figures(figures: Figures) -> Limits:
    """What `limit_figures` named. Raises KeyError with the name of a number that has no default and is not there."""
    roles = [role for role in Role if f"{role.value}.min" in figures]
    return Limits(
        objective=Objective(**_values(Objective, figures, "objective.")),
        roles={role: RoleLimits(**_values(RoleLimits, figures, f"{role.value}.")) for role in roles},
        **_values(Limits, figures),
    )


def capacity_figures(model: CapacityModel) -> dict[str, float]:
    """The numbers that sizing reads, by name."""
    return _numbers(model) | _numbers(model.steps, "steps.")


def capacity_of_figures(figures: Figures) -> CapacityModel:
    """A model that prices as the named numbers say. Raises KeyError with the name of a number that is not there."""
    steps = StepTimes(**_values(StepTimes, figures, "steps."))
    return CapacityModel(prior_steps=steps, steps=steps, **_values(CapacityModel, figures))


@cache
def _plain(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    """The fields that are single numbers, with their types: asked for at every tick of every service."""
    hints = get_type_hints(kind)
    return tuple((item, hints[item.name]) for item in fields(kind) if hints[item.name] in _PLAIN)


def _numbers(value: Any, prefix: str = "") -> dict[str, float]:
    kind: Any = type(value)
    found = ((item.name, getattr(value, item.name)) for item, _ in _plain(kind))
    return {prefix + name: float(number) for name, number in found if number is not None}


def _values(kind: Any, figures: Figures, prefix: str = "") -> dict[str, Any]:
    """The plain fields of a dataclass, each in its own type; those that have a default may be absent."""
    found: dict[str, Any] = {}
    for item, hint in _plain(kind):
        name = prefix + item.name
        if name in figures or item.default is MISSING:
            found[item.name] = hint(figures[name]) if hint in {int, bool} else figures[name]
    return found
