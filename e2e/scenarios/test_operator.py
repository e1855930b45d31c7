"""What becomes of the operator itself: killed, stopped, replaced, cut off from the API server."""

import signal
import time
from collections.abc import Callable

import pytest

from e2e.support.kubectl import CHILD_KINDS, Kubectl, Object, condition, ready, wait_for
from e2e.support.operator_process import OperatorProcess, leader
from headrace_cluster import Cluster

pytestmark = [pytest.mark.cluster]
Service = Callable[..., Object]
Start = Callable[..., OperatorProcess]
LEASE_S = 6.0


def test_operator_killed_mid_apply_and_restarted_converges(
    namespace: Kubectl, start_operator: Start, standin_service: Service
) -> None:
    first = start_operator("killed")
    namespace.apply(standin_service())
    wait_for("the first child", lambda: namespace.list(CHILD_KINDS, "headrace.dev/service=chat"), interval_s=0.05)
    first.stop(signal.SIGKILL)
    start_operator("successor")
    ready(namespace)


def test_second_operator_takes_over_within_the_lease_time(kubectl: Kubectl, start_operator: Start) -> None:
    first = start_operator("first")
    wait_for("the first to lead", lambda: leader(kubectl) == "first")
    start_operator("second")
    time.sleep(3)
    assert leader(kubectl) == "first"
    first.stop(signal.SIGKILL)
    wait_for("the second to lead", lambda: leader(kubectl) == "second", timeout_s=LEASE_S + 4)


def test_stopped_leader_that_continues_after_its_lease_writes_nothing(
    namespace: Kubectl, start_operator: Start, standin_service: Service, kubectl: Kubectl
) -> None:
    namespace.apply(standin_service())
    stale = start_operator("stale")
    ready(namespace)
    stale.send(signal.SIGSTOP)
    time.sleep(LEASE_S + 2)
    namespace.delete("service", "chat")  # bait: a leader would recreate it
    stale.send(signal.SIGCONT)
    stale.process.wait(30)  # type: ignore[union-attr]
    assert stale.process.returncode != 0, "lost leadership ends the process"  # type: ignore[union-attr]
    assert namespace.get("service", "chat") is None
    start_operator("heir")
    wait_for("the heir to repair it", lambda: namespace.get("service", "chat"))


def test_api_server_restart_is_survived(
    namespace: Kubectl, start_operator: Start, standin_service: Service, cluster: Cluster
) -> None:
    # With the default lease a restart of some seconds is ridden out; a longer one ends the process, for a clean start.
    start_operator("patient", HEADRACE_LEASE_DURATION_S="15", HEADRACE_LEASE_RENEW_DEADLINE_S="10")
    namespace.apply(standin_service())
    ready(namespace)
    cluster.restart("apiserver")
    namespace.delete("service", "chat")
    wait_for("repair after the API server is back", lambda: namespace.get("service", "chat"), timeout_s=90)
    assert condition(namespace.get("infsvc", "chat"), "Ready").get("status") == "True"
