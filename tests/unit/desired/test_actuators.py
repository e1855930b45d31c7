"""Modes HPA and KEDA: the objects that write the replicas which Headrace decides."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.crdgen import to_yaml
from headrace.api.pools import ScalingMode
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.build import build
from headrace.desired.hpa import METRIC, behavior
from headrace.desired.names import Manifest
from headrace.desired.settings import DesiredSettings

ROOT = Path(__file__).resolve().parents[3]
Make = Callable[..., InferenceService]
SETTINGS = DesiredSettings(prometheus_url="http://prometheus.monitoring:9090")
POOLS: dict[str, Any] = {
    "prefill": {"replicas": {"min": 1, "max": 4}},
    "decode": {"replicas": {"min": 2, "max": 12}},
}


def actuators(service: InferenceService, settings: DesiredSettings = SETTINGS) -> list[Manifest]:
    kinds = {"HorizontalPodAutoscaler", "ScaledObject"}
    return [manifest for manifest in build(service, settings) if manifest["kind"] in kinds]


@pytest.mark.parametrize("mode", ["HPA", "KEDA"])
def test_the_actuators_are_as_reviewed(service: Make, mode: str) -> None:
    text = "---\n".join(to_yaml(m) for m in actuators(service(autoscaling={"mode": mode}, **POOLS)))
    golden = ROOT / f"tests/golden/actuators-{mode.lower()}.yaml"
    if os.environ.get("HEADRACE_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", [mode for mode in ScalingMode if not mode.delegated])
def test_other_modes_make_none(service: Make, mode: ScalingMode) -> None:
    assert actuators(service(autoscaling={"mode": mode.value})) == []


@pytest.mark.parametrize("mode", ["HPA", "KEDA"])
def test_nothing_else_about_a_service_depends_on_the_mode(service: Make, mode: str) -> None:
    delegated = build(service(autoscaling={"mode": mode}), SETTINGS)
    others = [m for m in delegated if m["kind"] not in {"HorizontalPodAutoscaler", "ScaledObject"}]
    assert others == list(build(service(), SETTINGS))


@pytest.mark.parametrize("mode", ["HPA", "KEDA"])
def test_an_aggregated_service_has_one_for_its_workers(service: Make, mode: str) -> None:
    (only,) = actuators(service("Aggregated", autoscaling={"mode": mode}))
    assert only["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-worker"}


def test_keda_without_a_known_prometheus_gets_nothing_to_read_from(service: Make) -> None:
    assert actuators(service(autoscaling={"mode": "KEDA"}), DesiredSettings()) == []


@given(now=st.integers(1, 1000), step=st.sampled_from([-1, 1]), most=st.integers(1, 1000))
def test_no_step_of_one_replica_is_overlooked(now: int, step: int, most: int) -> None:
    """A HorizontalPodAutoscaler leaves a pool alone whose ratio is within its tolerance of 1 (0.1 unless set)."""
    if now <= most and 1 <= now + step <= most:
        tolerance = float(behavior(most)["scaleUp" if step > 0 else "scaleDown"].get("tolerance", 0.1))
        assert abs(1 - (now + step) / now) > tolerance


def test_the_adapters_rule_hands_on_what_the_horizontal_pod_autoscaler_asks_for(service: Make) -> None:
    (rule,) = yaml.safe_load((ROOT / "charts/prometheus-adapter/config.yaml").read_text())["externalRules"]
    external = actuators(service(autoscaling={"mode": "HPA"}))[0]["spec"]["metrics"][0]["external"]
    asked = {*external["metric"]["selector"]["matchLabels"], "namespace"}
    assert rule["name"]["as"] == external["metric"]["name"] == METRIC
    assert all(f'{label}!=""' in rule["seriesQuery"] for label in asked)
    assert rule["resources"]["overrides"] == {"namespace": {"resource": "namespace"}}
    assert rule["metricsQuery"].startswith("max(")
