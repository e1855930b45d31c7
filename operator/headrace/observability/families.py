"""Metrics written as a table: one class attribute for each, its own metric in each object, and gone with a service."""

from functools import partial
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from headrace.loops.keys import Key

OF_SERVICE = ("namespace", "service")
OF_ROLE = (*OF_SERVICE, "role")

M = TypeVar("M", bound=MetricWrapperBase)


class Family(Generic[M]):
    """A line of the table. The first look at it through an object makes the metric in that object's registry."""

    def __init__(self, kind: type[M], name: str, text: str, labels: tuple[str, ...] = (), **options: Any) -> None:
        self.of_service = labels[: len(OF_SERVICE)] == OF_SERVICE
        self._make = partial(kind, name, text, labels, **options)

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, families: "Families", owner: type) -> M:
        # In the object's own dictionary it comes before this one: later looks cost no more than any attribute.
        made = families.__dict__[self._attribute] = self._make(registry=families.registry)
        return made


class Families:
    """A class whose attributes of type Family are metrics: all of them exist from the start, in the table's order."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        table = [(name, part) for name, part in vars(type(self)).items() if isinstance(part, Family)]
        made = [(part, getattr(self, name)) for name, part in table]
        self._of_service = [metric for part, metric in made if part.of_service]

    def forget(self, service: Key) -> None:
        """Drop every series of a service."""
        for metric in self._of_service:
            drop(metric, service)


def drop(metric: MetricWrapperBase, service: Key) -> None:
    """Drop the series of a service from one metric."""
    metric.remove_by_labels({"namespace": service.namespace, "service": service.name})
