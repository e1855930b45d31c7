"""What the operator must be allowed to do. A test compares it with what charts/operator grants."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_OWN = ("get", "list", "watch", "create", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one resource."""

    group: str
    resource: str
    verb: str
    subresource: str = ""
    name: str = ""  # only for this object
    in_operator_namespace: bool = False  # else in every namespace

    def __str__(self) -> str:
        resource = "/".join(filter(None, (self.resource, self.subresource)))
        return f"{self.verb} {resource}{f'.{self.group}' if self.group else ''}{f' {self.name}' if self.name else ''}"

    def review(self, operator_namespace: str) -> dict[str, Any]:
        """The SelfSubjectAccessReview that asks for it."""
        attributes = {
            "group": self.group,
            "resource": self.resource,
            "subresource": self.subresource,
            "verb": self.verb,
            "name": self.name,
            "namespace": operator_namespace if self.in_operator_namespace else "",
        }
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }


def _each(group: str, resources: str, verbs: tuple[str, ...]) -> Iterator[Permission]:
    for resource in resources.split():
        name, _, subresource = resource.partition("/")
        for verb in verbs:
            yield Permission(group, name, verb, subresource)


REQUIRED: tuple[Permission, ...] = (
    *_each("headrace.dev", "inferenceservices", ("get", "list", "watch")),
    *_each("headrace.dev", "inferenceservices/status", ("get", "patch")),
    *_each("headrace.dev", "inferenceservices/finalizers", ("update",)),
    *_each("", "configmaps serviceaccounts services", _OWN),
    *_each("apps", "deployments", _OWN),
    *_each("policy", "poddisruptionbudgets", _OWN),
    *_each("networking.k8s.io", "networkpolicies", _OWN),
    *_each("rbac.authorization.k8s.io", "roles rolebindings", _OWN),
    *_each("autoscaling", "horizontalpodautoscalers", _OWN),
    *_each("keda.sh", "scaledobjects", ("get", "list", "create", "patch", "delete")),
    *_each("", "pods", ("get", "list", "watch", "patch")),
    *_each("events.k8s.io", "events", ("create", "patch")),
    *(
        Permission("coordination.k8s.io", "leases", verb, in_operator_namespace=True)
        for verb in ("get", "list", "watch", "create", "update", "patch")
    ),
    *(Permission("coordination.k8s.io", "leases", verb, name="headrace-operator") for verb in ("list", "watch")),
)
