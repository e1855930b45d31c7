"""Signals and limits as plain JSON values and back, exactly: what the decision log is made of.

A signal's fields that have their default (zero, empty, not known) are left out; the engines' long lists are arrays in
the order of their dataclass's fields. Floats survive JSON bit for bit as long as they are finite.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from operator import attrgetter
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.signals import (
    ArrivalBin,
    EngineLoad,
    EngineState,
    FinishedRequest,
    GatewaySample,
    PodPhase,
    PodSample,
    PoolState,
    RunningStream,
    Signals,
)

Record = dict[str, Any]
_LISTS: Mapping[str, type] = {"arrivals": ArrivalBin, "running": RunningStream, "finished": FinishedRequest}
_ROWS = {kind: attrgetter(*(item.name for item in fields(kind))) for kind in _LISTS.values()}
_DEFAULTS = {
    kind: tuple((item.name, item.default) for item in fields(kind))
    for kind in (Signals, PodSample, EngineLoad, EngineState, GatewaySample, PoolState)
}


def signals_to_json(signals: Signals) -> Record:
    """All that was known about a service at one moment; `signals_from_json` gives it back unchanged."""
    return {
        **_sparse(signals),
        "pods": [_pod_to_json(pod) for pod in signals.pods],
        "pools": {role.value: _sparse(pool) for role, pool in signals.pools.items()},
        "gateway": None if signals.gateway is None else _sparse(signals.gateway),
    }


def signals_from_json(record: Mapping[str, Any]) -> Signals:
    """What `signals_to_json` wrote. Raises KeyError, TypeError or ValueError on anything else."""
    gateway = record["gateway"]
    return Signals(
        **{
            **record,
            "pods": tuple(_pod_from_json(pod) for pod in record["pods"]),
            "pools": {Role(name): PoolState(**pool) for name, pool in record["pools"].items()},
            "gateway": None if gateway is None else GatewaySample(**gateway),
        }
    )


def limits_to_json(limits: Limits) -> Record:
    """Everything that a decision had to respect, in full: a default may be another one when it is read again."""
    return {**asdict(limits), "roles": {role.value: asdict(part) for role, part in limits.roles.items()}}


def limits_from_json(record: Mapping[str, Any]) -> Limits:
    """What `limits_to_json` wrote. Raises KeyError, TypeError or ValueError on anything else."""
    return Limits(
        **{
            **record,
            "objective": Objective(**record["objective"]),
            "roles": {Role(name): RoleLimits(**part) for name, part in record["roles"].items()},
        }
    )


def _pod_to_json(pod: PodSample) -> Record:
    record = {**_sparse(pod), "role": pod.role.value, "phase": pod.phase.value}
    if pod.load is not None:
        record["load"] = _sparse(pod.load)
    if pod.state is not None:
        state = _sparse(pod.state)
        record["state"] = state | {name: _rows(state[name], kind) for name, kind in _LISTS.items() if name in state}
    return record


def _pod_from_json(record: Mapping[str, Any]) -> PodSample:
    load, state = record.get("load"), record.get("state")
    return PodSample(
        **{
            **record,
            "role": Role(record["role"]),
            "phase": PodPhase(record["phase"]),
            "load": None if load is None else _load(load),
            "state": None if state is None else _state(state),
        }
    )


def _load(record: Mapping[str, Any]) -> EngineLoad:
    moments = record.get("decode_moments")
    return EngineLoad(**{**record, "decode_moments": None if moments is None else tuple(moments)})


def _state(record: Mapping[str, Any]) -> EngineState:
    lists = {name: tuple(kind(*row) for row in record[name]) for name, kind in _LISTS.items() if name in record}
    return EngineState(**{**record, **lists})


def _rows(values: Iterable[Any], kind: type) -> list[Any]:
    return list(map(_ROWS[kind], values))


def _sparse(value: Any) -> Record:
    """The fields that differ from their default."""
    found = ((name, default, getattr(value, name)) for name, default in _DEFAULTS[type(value)])
    return {name: item for name, default, item in found if default is MISSING or item != default}
