"""The doctor's checks: what the cluster answered, and the finding with its mend."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.api import crdgen
from headrace.cli import checks
from headrace.cli.checks import Level
from headrace.cli.doctor import told_url
from headrace.cli.permissions import REQUIRED

NOW = 1_790_000_000.0


def established() -> dict[str, Any]:
    return {**crdgen.crd(), "status": {"conditions": [{"type": "Established", "status": "True"}]}}


def test_the_crd_of_this_version_is_well() -> None:
    assert checks.check_crd(established()).level is Level.OK


def test_an_absent_or_not_established_crd_fails_with_the_command_that_mends_it() -> None:
    absent = checks.check_crd(None)
    assert (absent.level, absent.mend) == (Level.FAIL, "kubectl apply --server-side -k crds")
    assert checks.check_crd(crdgen.crd()).level is Level.FAIL


def test_a_crd_with_another_schema_is_a_warning_and_without_our_version_a_failure() -> None:
    crd = deepcopy(established())
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["slo"]
    assert checks.check_crd(crd).level is Level.WARN
    crd["spec"]["versions"][0]["served"] = False
    assert checks.check_crd(crd).level is Level.FAIL


def lease(age_s: float, holder: str = "op-1") -> dict[str, Any]:
    renewed = datetime.fromtimestamp(NOW - age_s, UTC).isoformat().replace("+00:00", "Z")
    return {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}}


DEPLOYMENT = {"metadata": {"namespace": "headrace-system"}, "status": {"readyReplicas": 2}}


@pytest.mark.parametrize(
    ("deployment", "found", "level", "words"),
    [
        (DEPLOYMENT, lease(3), Level.OK, "op-1 leads"),
        (None, lease(3), Level.OK, "op-1 leads"),  # runs outside of the cluster
        (DEPLOYMENT, lease(60), Level.FAIL, "last holder: op-1"),
        (DEPLOYMENT, lease(3, ""), Level.FAIL, "2 operator pods are ready"),
        (None, None, Level.FAIL, "no Deployment"),
    ],
)
def test_somebody_must_lead_and_have_renewed(deployment: Any, found: Any, level: Level, words: str) -> None:
    finding = checks.check_operator(deployment, found, NOW)
    assert finding.level is level
    assert words in finding.message


def test_missing_permissions_are_named_and_a_long_list_is_cut() -> None:
    assert checks.check_permissions(dict.fromkeys(REQUIRED, True), "it").level is Level.OK
    finding = checks.check_permissions(dict.fromkeys(REQUIRED, False), "it")
    assert finding.level is Level.FAIL
    assert "get inferenceservices.headrace.dev" in finding.message
    assert f"and {len(REQUIRED) - 6} more" in finding.message


def node(ready: str = "True", labels: dict[str, str] | None = None, **allocatable: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    amounts = {key.replace("_", ".").replace("..", "/"): value for key, value in allocatable.items()}
    return {
        "metadata": {"name": "n", "labels": labels or {}},
        "status": {"conditions": conditions, "allocatable": amounts},
    }


H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


def service(accelerator: str = "cpu", **conditions: tuple[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {"accelerator": accelerator},
        "status": {
            "conditions": [
                {"type": name, "status": status, "reason": reason, "message": "m"}
                for name, (status, reason) in conditions.items()
            ]
        },
    }


@pytest.mark.parametrize(
    ("nodes", "accelerator", "level"),
    [
        ([node()], "cpu", Level.OK),
        ([node(ready="False")], "cpu", Level.FAIL),
        ([node(labels=H100, nvidia_com__gpu="8")], "nvidia-h100", Level.OK),
        ([node(labels=H100)], "nvidia-h100", Level.FAIL),  # no device plugin
        ([node(nvidia_com__gpu="8")], "nvidia-h100", Level.FAIL),  # another card
        ([node()], "nvidia-h1000", Level.FAIL),
    ],
)
def test_every_accelerator_in_use_needs_a_ready_node(nodes: list[Any], accelerator: str, level: Level) -> None:
    (finding,) = checks.check_accelerators(nodes, [service(accelerator), service(accelerator)])
    assert finding.level is level
    assert bool(finding.mend) == (level is Level.FAIL)


def test_without_services_the_catalogue_is_compared_with_the_nodes() -> None:
    (finding,) = checks.check_accelerators([node(labels=H100, nvidia_com__gpu="8")], [])
    assert finding.level is Level.OK
    assert "nvidia-h100" in finding.message
    assert checks.check_accelerators([], [])[0].level is Level.FAIL


def vector(*values: str) -> dict[str, Any]:
    return {"data": {"result": [{"metric": {}, "value": [0, value]} for value in values]}}


@pytest.mark.parametrize(
    ("url", "answer", "services", "level", "words"),
    [
        ("", None, 1, Level.WARN, "no URL"),
        ("http://p", None, 1, Level.WARN, "does not answer: refused"),
        ("http://p", vector("0"), 1, Level.WARN, "scrapes no engine (1 targets, none up)"),
        ("http://p", vector(), 0, Level.OK, "0 engines"),
        ("http://p", vector("1", "1"), 1, Level.OK, "2 engines"),
    ],
)
def test_prometheus_must_answer_and_scrape(url: str, answer: Any, services: int, level: Level, words: str) -> None:
    finding = checks.check_prometheus(url, answer, "refused", services)
    assert finding.level is level
    assert words in finding.message


@pytest.mark.parametrize(
    ("conditions", "level"),
    [
        ({}, Level.FAIL),
        ({"Ready": ("True", "Available")}, Level.OK),
        ({"Ready": ("False", "Starting")}, Level.WARN),
        ({"Ready": ("True", "Available"), "Stalled": ("True", "InvalidSpec")}, Level.FAIL),
        ({"Ready": ("True", "Available"), "SignalsHealthy": ("False", "Stale")}, Level.WARN),
    ],
)
def test_a_service_s_own_conditions_are_told(conditions: Any, level: Level) -> None:
    assert checks.check_service(service(**conditions)).level is level


def test_the_operator_s_prometheus_url_is_read_from_its_deployment() -> None:
    env = [{"name": "HOME", "value": "/"}, {"name": "HEADRACE_PROMETHEUS_URL", "value": "http://p"}]
    assert told_url({"spec": {"template": {"spec": {"containers": [{"env": env}]}}}}) == "http://p"
    assert told_url(None) == ""
