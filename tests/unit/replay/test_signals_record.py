"""Signals and limits survive JSON unchanged, whatever is in them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.autoscaler.limits import Limits
from headrace.autoscaler.replay import Tick
from headrace.autoscaler.signals import Signals
from headrace.autoscaler.signals_record import limits_from_json, limits_to_json, signals_from_json, signals_to_json

PLAIN = {
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=8),
    bool: st.booleans(),
    NoneType: st.none(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Anything that a type hint allows: a field that is added later is covered without a change here."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin in {Union, UnionType}:
        return st.one_of(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    assert is_dataclass(hint)
    assert isinstance(hint, type)
    hints = get_type_hints(hint)
    return st.builds(hint, **{item.name: values(hints[item.name]) for item in fields(hint)})


def through_json(record: Any) -> Any:
    return orjson.loads(orjson.dumps(record))


@given(values(Signals))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_signals_come_back_unchanged(signals: Signals) -> None:
    assert signals_from_json(through_json(signals_to_json(signals))) == signals


@given(values(Limits))
@settings(max_examples=150, deadline=None)
def test_limits_come_back_unchanged(limits: Limits) -> None:
    assert limits_from_json(through_json(limits_to_json(limits))) == limits


def test_the_order_of_roles_comes_back_too(run: list[Tick]) -> None:
    limits = limits_from_json(through_json(limits_to_json(run[0].limits)))
    assert list(limits.roles) == list(run[0].limits.roles)


@pytest.mark.parametrize("broken", [{}, {"pods": 1, "pools": {}, "gateway": None}, {"pods": [{}], "gateway": None}])
def test_anything_else_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        signals_from_json(broken)
