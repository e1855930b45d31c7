"""What a user is told about a wrong object, at the moment and in the words that they see."""

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.support.kubectl import Kubectl, Object, condition, is_true, wait_for
from e2e.support.operator_process import OperatorProcess
from headrace_cluster import Cluster

pytestmark = [pytest.mark.cluster]
Service = Callable[..., Object]


def told(kubectl: Kubectl, type_: str, reason: str, name: str = "chat", timeout_s: float = 60) -> str:
    """The message of a condition once it carries this reason."""

    def probe() -> str | None:
        found = condition(kubectl.get("infsvc", name), type_)
        return str(found["message"]) if found.get("reason") == reason else None

    return wait_for(f"{type_} with reason {reason}", probe, timeout_s=timeout_s)


def test_unknown_field_is_refused_by_name(namespace: Kubectl, standin_service: Service) -> None:
    assert "replcas" in namespace.rejected(standin_service(prefill={"replcas": {"min": 1, "max": 2}}))


def test_min_above_max_is_refused_with_the_mend(namespace: Kubectl, standin_service: Service) -> None:
    message = namespace.rejected(standin_service(decode={"replicas": {"min": 3, "max": 2}}))
    assert "spec.decode.replicas" in message
    assert "min" in message
    assert "max" in message


def test_bad_quantity_is_refused_with_its_field(namespace: Kubectl, standin_service: Service) -> None:
    decode = {"replicas": {"min": 1, "max": 2}, "resources": {"requests": {"memory": "2 gigs"}}}
    assert "spec.decode.resources" in namespace.rejected(standin_service(decode=decode))


def test_bad_duration_is_refused_with_its_field(namespace: Kubectl, standin_service: Service) -> None:
    assert "spec.slo.ttft" in namespace.rejected(standin_service(slo={"ttft": "soon"}))


def test_missing_model_source_is_refused(namespace: Kubectl, standin_service: Service) -> None:
    message = namespace.rejected(standin_service(model={}))
    assert "spec.model.source" in message


def test_changed_immutable_field_is_refused(namespace: Kubectl, standin_service: Service) -> None:
    namespace.apply(standin_service())
    message = namespace.rejected(standin_service(model={"source": "file:///usr"}))
    assert "spec.model.source" in message
    assert "immutable" in message


def test_unknown_accelerator_is_named_with_the_known_ones(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service
) -> None:
    namespace.apply(standin_service(accelerator="nvidia-h1000"))
    message = told(namespace, "Stalled", "UnknownAccelerator")
    assert "nvidia-h1000" in message
    assert "nvidia-h100" in message


def test_children_that_would_collide_are_named_and_left_alone(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service
) -> None:
    namespace.apply(standin_service("chat"))
    wait_for("chat to be Ready", lambda: is_true(namespace.get("infsvc", "chat"), "Ready"), timeout_s=120)
    uid = namespace.get("service", "chat-decode")["metadata"]["uid"]  # type: ignore[index]
    namespace.apply(standin_service("chat-decode"))
    message = told(namespace, "Stalled", "ChildNameCollision", name="chat-decode")
    assert "chat-decode" in message
    assert namespace.get("service", "chat-decode")["metadata"]["uid"] == uid  # type: ignore[index]
    assert is_true(namespace.get("infsvc", "chat"), "Ready")


def test_model_directory_without_config_is_said(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service, cluster: Cluster
) -> None:
    empty = Path(cluster.models) / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    namespace.apply(standin_service(topology="Aggregated", model={"source": f"file://{empty}"}, engine={}))
    # Said at once where the operator can see the folder; the engine says the same and does not come up.
    assert f"{empty} has no config.json" in told(namespace, "Stalled", "ModelInvalid")
    assert f"{empty} has no config.json" in told(namespace, "WorkerReady", "EngineCrashLoop", timeout_s=120)


def test_engine_that_crashes_at_start_is_said_with_its_last_words(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service
) -> None:
    crash = {"image": "headrace/standin:dev", "extraArgs": {"standin-crash": "out of luck"}}
    namespace.apply(standin_service(topology="Aggregated", engine=crash))
    assert "out of luck" in told(namespace, "WorkerReady", "EngineCrashLoop", timeout_s=120)


def test_prometheus_down_holds_and_is_said(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service, cluster: Cluster
) -> None:
    namespace.apply(standin_service())
    wait_for("chat to be Ready", lambda: is_true(namespace.get("infsvc", "chat"), "Ready"), timeout_s=120)
    cluster.stop("prometheus")
    try:
        message = told(namespace, "SignalsHealthy", "PrometheusDown", timeout_s=60)
        assert "Prometheus" in message
        assert is_true(namespace.get("infsvc", "chat"), "Ready"), "serving goes on"
    finally:
        cluster.restart("prometheus")
    wait_for("signals to be healthy again", lambda: is_true(namespace.get("infsvc", "chat"), "SignalsHealthy"))
