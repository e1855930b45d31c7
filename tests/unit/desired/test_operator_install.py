"""The kustomize base: it may do what it must, no more, and runs restricted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.api.v1alpha1 import InferenceService
from headrace.desired.build import build
from headrace.desired.settings import DesiredSettings
from headrace.kube.interface import kind_of
from headrace.kube.kinds import ALL_KINDS, CHILD_KINDS
from headrace.settings import PREFIX, Settings

BASE = Path(__file__).resolve().parents[3] / "charts/operator"
Make = Callable[..., InferenceService]
CHILD_VERBS = {"get", "list", "watch", "create", "patch", "delete"}
PLURALS = {(kind.api_version, kind.kind): kind.plural for kind in ALL_KINDS}  # the resource's name in RBAC
WATCHED = {kind.plural for kind in CHILD_KINDS}
SETTINGS = DesiredSettings(prometheus_url="http://prometheus:9090")
# Together they make every kind of child that there is.
SPECS: list[dict[str, Any]] = [
    {"topology": "Aggregated", "autoscaling": {"mode": "HPA"}},
    {"topology": "Disaggregated", "autoscaling": {"mode": "KEDA"}},
]


def documents() -> list[dict[str, Any]]:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    return [doc for name in listed for doc in yaml.safe_load_all((BASE / name).read_text(encoding="utf-8"))]


def named(kind: str, name: str = "headrace-operator") -> dict[str, Any]:
    return next(doc for doc in documents() if doc["kind"] == kind and doc["metadata"]["name"] == name)


def verbs(role: dict[str, Any], group: str, resource: str) -> set[str]:
    rules = [rule for rule in role["rules"] if group in rule["apiGroups"] and resource in rule["resources"]]
    return {verb for rule in rules for verb in rule["verbs"]}


def test_every_file_of_the_base_is_listed() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("spec", SPECS)
def test_the_operator_may_manage_every_kind_that_it_builds(service: Make, spec: dict[str, Any]) -> None:
    role = named("ClusterRole")
    for manifest in build(service(**spec), SETTINGS):
        group, plural = manifest["apiVersion"].rpartition("/")[0], PLURALS[kind_of(manifest)]
        needed = CHILD_VERBS if plural in WATCHED else CHILD_VERBS - {"watch"}
        assert verbs(role, group, plural) == needed, manifest["kind"]


def test_the_operator_may_manage_no_kind_that_it_does_not_build(service: Make) -> None:
    built = {PLURALS[kind_of(manifest)] for spec in SPECS for manifest in build(service(**spec), SETTINGS)}
    managed = {
        resource
        for rule in named("ClusterRole")["rules"]
        if "delete" in rule["verbs"]
        for resource in rule["resources"]
    }
    assert managed == built


def test_the_operator_holds_what_it_grants_to_gateways(service: Make) -> None:
    granted = next(m for m in build(service(), DesiredSettings()) if m["kind"] == "Role")["rules"]
    for rule in granted:
        for resource in rule["resources"]:
            assert set(rule["verbs"]) <= verbs(named("ClusterRole"), rule["apiGroups"][0], resource)


def test_nothing_is_granted_by_wildcard_nor_are_secrets_or_escalation() -> None:
    for role in (doc for doc in documents() if doc["kind"] in {"ClusterRole", "Role"}):
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            assert not {"secrets", "pods/exec", "nodes"} & set(rule["resources"])
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_outside_its_namespace_the_operator_may_only_watch_leases_of_its_own_name() -> None:
    assert verbs(named("Role"), "coordination.k8s.io", "leases") >= {"get", "create", "update", "watch"}
    (rule,) = [rule for rule in named("ClusterRole")["rules"] if "leases" in rule["resources"]]
    assert (rule["resourceNames"], rule["verbs"]) == ([Settings().lease_name], ["list", "watch"])


def test_the_operator_runs_restricted_and_twice() -> None:
    spec = named("Deployment")["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["replicas"] == 2
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert named("Namespace", "headrace-system")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == (
        "restricted"
    )


def test_budget_service_and_policy_select_the_operators_pods() -> None:
    labels = named("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for kind, path in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert named(kind)["spec"][path]["matchLabels"].items() <= labels
    assert named("Service")["spec"]["selector"].items() <= labels


def test_environment_names_settings_that_exist() -> None:
    (container,) = named("Deployment")["spec"]["template"]["spec"]["containers"]
    names = [entry["name"] for entry in container["env"] if entry["name"].startswith(PREFIX)]
    assert names
    assert {name.removeprefix(PREFIX).lower() for name in names} <= set(Settings.model_fields)
