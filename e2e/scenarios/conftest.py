"""One cluster for every scenario; one operator for those that do not kill it."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from e2e.support.kubectl import Kubectl, Object, wait_for
from e2e.support.models import service_on_standin, tiny_model
from e2e.support.operator_process import OperatorProcess, leader, service_account_kubeconfig
from headrace_cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
# Windows are minutes in production; seconds here, so that a scenario sees them pass.
SHORT_WINDOWS = {
    "HEADRACE_AUTOSCALE_INTERVAL_S": "2",
    "HEADRACE_SCALE_DOWN_WINDOW_S": "20",
    "HEADRACE_RESTART_HOLD_S": "5",
    "HEADRACE_LEASE_DURATION_S": "6",
    "HEADRACE_LEASE_RENEW_DEADLINE_S": "4",
    "HEADRACE_LEASE_RETRY_S": "1",
}
_ports = count(18081)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The embedded Kubernetes with Prometheus, the CRD, and the operator's RBAC (its Deployment scaled to none)."""
    # Another name lets two runs live side by side on one machine.
    with Cluster(os.environ.get("HEADRACE_E2E_CLUSTER", "e2e")) as up:
        up.up(prometheus=True)
        up.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
        up.kubectl("apply", "--server-side", "-k", str(ROOT / "charts/operator"))
        up.kubectl("-n", "headrace-system", "scale", "deployment/headrace-operator", "--replicas=0")
        up.kubectl("wait", "--for=condition=Established", "crd/inferenceservices.headrace.dev", "--timeout=30s")
        yield up


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    """kubectl with all rights."""
    return Kubectl(cluster.kubectl_binary, cluster.kubeconfig)


@pytest.fixture(scope="session")
def operator_kubeconfig(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's own rights."""
    return service_account_kubeconfig(kubectl, tmp_path_factory.mktemp("operator") / "kubeconfig")


@pytest.fixture
def start_operator(
    cluster: Cluster, operator_kubeconfig: Path, tmp_path: Path
) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts operators that end with the test; keyword arguments are further settings."""
    running: list[OperatorProcess] = []

    def start(identity: str, **more: str) -> OperatorProcess:
        settings = {**SHORT_WINDOWS, "HEADRACE_PROMETHEUS_URL": cluster.prometheus_url, **more}
        log = tmp_path / f"{identity}.log"
        running.append(OperatorProcess(operator_kubeconfig, log, identity, next(_ports), settings).start())
        return running[-1]

    yield start
    for operator in running:
        operator.stop()


@pytest.fixture(scope="module")
def module_operator(
    cluster: Cluster, operator_kubeconfig: Path, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One leading operator for a whole file."""
    decisions = tmp_path_factory.mktemp("decisions")
    settings = {
        **SHORT_WINDOWS,
        "HEADRACE_PROMETHEUS_URL": cluster.prometheus_url,
        "HEADRACE_DECISION_LOG_DIR": str(decisions),
    }
    log = tmp_path_factory.mktemp("operator-log") / "operator.log"
    started = OperatorProcess(operator_kubeconfig, log, "module-operator", next(_ports), settings).start()
    wait_for("the operator to lead", lambda: leader(kubectl) == "module-operator", timeout_s=60)
    yield started
    started.stop()


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl in a namespace that the test has to itself."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**8}"
    kubectl.run("create", "namespace", name)
    yield kubectl.in_namespace(name)
    kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def model(cluster: Cluster) -> Path:
    """The tiny model, in the folder that the cluster's pods see."""
    return tiny_model(cluster.models)


@pytest.fixture
def standin_service(model: Path) -> Callable[..., Object]:
    """Makes InferenceServices whose engines are the stand-in."""
    return partial(service_on_standin, model)
