"""What happens to the children of an InferenceService on a real API server and kubelet, with the stand-in engine."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from e2e.support.kubectl import CHILD_KINDS, Kubectl, Object, is_true, ready, wait_for
from e2e.support.models import service_on_standin
from e2e.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.cluster]
Service = Callable[..., Object]


def spec_of(kubectl: Kubectl, deployment: str) -> Object:
    spec: Object = (kubectl.get("deployment", deployment) or {"spec": {}})["spec"]
    return spec


def versions(kubectl: Kubectl) -> dict[str, str]:
    """resourceVersion by kind/name of everything that belongs to the service, itself included."""
    objects = kubectl.list(CHILD_KINDS, "headrace.dev/service=chat") + kubectl.list("infsvc")
    return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in objects}


@pytest.fixture(scope="module")
def steady(kubectl: Kubectl, module_operator: OperatorProcess, model: Path) -> Iterator[tuple[Kubectl, float]]:
    """A Ready service that nobody touches while the first scenarios run, and the moment since which it is settled."""
    kubectl.run("create", "namespace", "steady")
    steady = kubectl.in_namespace("steady")
    steady.apply(service_on_standin(model))
    ready(steady)
    time.sleep(15)  # the last transitions of a start settle
    yield steady, time.monotonic()
    kubectl.run("delete", "namespace", "steady", "--wait=false")


def test_applied_service_becomes_ready_and_echoes_its_defaults(steady: tuple[Kubectl, float]) -> None:
    service = steady[0].get("infsvc", "chat")
    assert service is not None
    assert is_true(service, "Ready")
    assert service["status"]["observedGeneration"] == service["metadata"]["generation"]
    assert service["status"]["resolved"]["slo"]["percentile"] == 95


@pytest.fixture(scope="module")
def before(steady: tuple[Kubectl, float]) -> dict[str, str]:
    """resourceVersions at the beginning of the steady minute."""
    return versions(steady[0])


def test_deleted_child_comes_back_and_edited_field_is_repaired(
    before: dict[str, str], namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service
) -> None:
    namespace.apply(standin_service())
    ready(namespace)
    old = namespace.get("service", "chat")
    assert old is not None
    namespace.delete("service", "chat")
    uid = old["metadata"]["uid"]
    wait_for("the Service to come back", lambda: (namespace.get("service", "chat") or old)["metadata"]["uid"] != uid)

    namespace.patch("deployment", "chat-gateway", {"spec": {"template": {"spec": {"serviceAccountName": "default"}}}})
    wait_for(
        "the gateway's ServiceAccount to be repaired",
        lambda: spec_of(namespace, "chat-gateway")["template"]["spec"]["serviceAccountName"] == "chat-gateway",
    )


def test_replicas_set_by_another_writer_are_adopted_as_a_floor(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service
) -> None:
    namespace.apply(standin_service())
    ready(namespace)
    namespace.run("scale", "deployment/chat-decode", "--replicas=2")
    pods = "headrace.dev/service=chat,headrace.dev/role=decode"
    wait_for("two decode pods", lambda: [is_true(p, "Ready") for p in namespace.list("pods", pods)] == [True, True])
    time.sleep(8)  # several autoscale ticks: it must not be fought
    assert spec_of(namespace, "chat-decode")["replicas"] == 2
    # The floor lasts one scale-down window; then the idle pool shrinks to its minimum.
    wait_for("the floor to end", lambda: spec_of(namespace, "chat-decode")["replicas"] == 1, timeout_s=120)


def test_topology_switch_leaves_no_orphan(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service
) -> None:
    namespace.apply(standin_service(topology="Aggregated"))
    ready(namespace)
    assert namespace.get("deployment", "chat-worker")
    namespace.run("replace", "-f", "-", stdin=yaml.safe_dump(standin_service(topology="Disaggregated")))
    wait_for("the worker pool to go", lambda: namespace.get("deployment", "chat-worker") is None)
    ready(namespace)
    left = {o["metadata"]["name"] for o in namespace.list(CHILD_KINDS, "headrace.dev/service=chat")}
    assert not {name for name in left if "worker" in name}
    assert {"chat-prefill", "chat-decode"} <= left


def test_foreground_delete_ends_and_nothing_is_recreated(
    namespace: Kubectl, module_operator: OperatorProcess, standin_service: Service
) -> None:
    namespace.apply(standin_service())
    ready(namespace)
    namespace.delete("infsvc", "chat", "--cascade=foreground", "--timeout=120s")
    assert namespace.get("infsvc", "chat") is None
    wait_for("the children to go", lambda: not namespace.list(CHILD_KINDS, "headrace.dev/service=chat"))
    time.sleep(5)
    assert not namespace.list(CHILD_KINDS, "headrace.dev/service=chat")


def test_steady_state_and_a_re_apply_write_nothing_for_a_minute(
    steady: tuple[Kubectl, float], before: dict[str, str], model: Path
) -> None:
    kubectl, settled_at = steady
    assert len(before) > 10
    kubectl.apply(service_on_standin(model))
    time.sleep(max(0.0, settled_at + 60 - time.monotonic()))
    assert versions(kubectl) == before
