"""queue.json: the order in which engines take what waits, beside their configuration and changed without a restart."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace.api.serving import QueueOrder
from headrace.api.v1alpha1 import InferenceService
from headrace.catalog.accelerators import lookup
from headrace.desired.build import build, revision_of
from headrace.desired.names import Manifest
from headrace.desired.settings import DesiredSettings
from headrace.reconcile.limits import limits_of
from headrace_engine_config.late_last import QueueConfig

Make = Callable[..., InferenceService]
SETTINGS = DesiredSettings()


def engine_files(manifests: tuple[Manifest, ...], name: str) -> dict[str, str]:
    files: dict[str, str] = next(
        m["data"] for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == name
    )
    return files


def queue_of(manifests: tuple[Manifest, ...], role: str) -> QueueConfig:
    return QueueConfig.model_validate_json(engine_files(manifests, f"chat-{role}-engine")["queue.json"])


@pytest.mark.parametrize(
    ("topology", "spec", "queue"),
    [
        ("Disaggregated", {}, QueueConfig(order="LateLast", ttft_seconds=2.0)),
        ("Aggregated", {"engine": {"queueOrder": "Arrival"}}, QueueConfig(order="Arrival", ttft_seconds=2.0)),
        (
            "Disaggregated",
            {"slo": {"ttft": "500ms", "ttftPer1kPromptTokens": "250ms"}},
            QueueConfig(ttft_seconds=0.5, ttft_per_1k_prompt_seconds=0.25),
        ),
        (
            "Disaggregated",
            {"engine": {"extraArgs": {"enable-priority-scheduling": True}}},
            QueueConfig(order="Arrival", ttft_seconds=2.0),
        ),
        (
            "Disaggregated",
            {"prefill": {"parallelism": {"pipeline": 2}}},
            QueueConfig(order="Arrival", ttft_seconds=2.0),
        ),
    ],
)
def test_queue_json_carries_the_order_and_the_objective_to_every_role(
    service: Make, topology: str, spec: dict[str, Any], queue: QueueConfig
) -> None:
    chosen = service(topology, **spec)
    for role in chosen.spec.roles:
        assert queue_of(build(chosen, SETTINGS), role.value) == queue
    timing: dict[str, Any] = {"tick_s": 5.0, "scale_down_window_s": None, "restart_hold_s": 300.0, "max_starting": 8}
    limits = limits_of(chosen, lookup("nvidia-h100"), **timing)
    assert limits.late_last == (queue.order == "LateLast")  # pools are sized for the order that engines keep


@pytest.mark.parametrize("order", QueueOrder)
def test_every_order_of_the_spec_is_one_that_engines_know(service: Make, order: QueueOrder) -> None:
    built = build(service(engine={"queueOrder": order.value}), SETTINGS)
    assert queue_of(built, "decode").order == order.value


@pytest.mark.parametrize(
    "change",
    [{"slo": {"ttft": "9s"}}, {"slo": {"ttftPer1kPromptTokens": "1s"}}, {"engine": {"queueOrder": "Arrival"}}],
)
@pytest.mark.parametrize("topology", ["Aggregated", "Disaggregated"])
def test_a_changed_order_or_objective_reaches_running_engines_by_queue_json_alone(
    service: Make, topology: str, change: dict[str, Any]
) -> None:
    old, new = service(topology), service(topology, **change)
    before, after = build(old, SETTINGS), build(new, SETTINGS)
    assert revision_of(old, SETTINGS) == revision_of(new, SETTINGS)
    changed = {manifest["metadata"]["name"] for manifest, other in zip(before, after, strict=True) if manifest != other}
    assert changed == {f"chat-{role.value}-engine" for role in old.spec.roles}
    for name in changed:
        data, other = (engine_files(built, name) for built in (before, after))
        assert {key for key in data if data[key] != other[key]} == {"queue.json"}
