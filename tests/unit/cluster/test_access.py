from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from headrace_cluster import external, pki, prometheus
from headrace_cluster.errors import ClusterError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "pki"
    pki.write_all(path, "demo", "https://10.89.0.2:6443", (IPv4Address("10.89.0.2"), IPv4Address("10.96.0.1")))
    return path


def _certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_the_api_servers_certificate_covers_every_address_it_is_called_by(folder: Path) -> None:
    names = _certificate(folder, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"10.89.0.2", "10.96.0.1", "127.0.0.1"} <= {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_the_kubelet_is_a_node_and_signed_by_the_clusters_authority(folder: Path) -> None:
    certificate, ca = _certificate(folder, "kubelet"), _certificate(folder, "ca")
    assert certificate.subject.rfc4514_string() == "CN=system:node:demo,O=system:nodes"
    certificate.verify_directly_issued_by(ca)


def test_prometheus_and_dns_are_no_administrators(folder: Path) -> None:
    assert "system:masters" not in _certificate(folder, "dns").subject.rfc4514_string()
    assert "system:masters" not in _certificate(folder, "prometheus").subject.rfc4514_string()


def test_private_keys_and_kubeconfigs_are_for_their_owner_alone(folder: Path) -> None:
    private = [*folder.glob("*.key"), *folder.glob("*.kubeconfig")]
    assert len(private) > 10
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_keys_are_elliptic(folder: Path) -> None:
    assert isinstance(_certificate(folder, "ca").public_key(), ec.EllipticCurvePublicKey)


KUBECONFIG = """
clusters: [{name: c, cluster: {server: "https://example:6443", certificate-authority: certs/ca.crt}}]
users: [{name: u, user: {token: secret}}, {name: other, user: {token: not-this}}]
contexts: [{name: work, context: {cluster: c, user: u}}, {name: broken, context: {cluster: gone, user: u}}]
current-context: broken
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    return path


def test_one_context_is_taken_from_an_existing_kubeconfig_with_absolute_paths(source: Path, tmp_path: Path) -> None:
    found = external.extract("work", [tmp_path / "missing", source])
    assert found["current-context"] == "work"
    assert [user["name"] for user in found["users"]] == ["u"]
    assert found["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "certs/ca.crt")


def test_an_unknown_context_is_answered_with_those_there_are(source: Path) -> None:
    with pytest.raises(ClusterError, match=r"No context 'play'.*work, broken"):
        external.extract("play", [source])


def test_a_context_that_points_to_nothing_is_named(source: Path) -> None:
    with pytest.raises(ClusterError, match="'broken'"):
        external.extract("broken", [source])


def test_prometheus_keeps_metric_names_and_scrapes_each_role_at_its_port() -> None:
    (job,) = yaml.safe_load(prometheus.default_config(Path("/pki/prometheus.kubeconfig")))["scrape_configs"]
    assert job["scrape_protocols"] == ["PrometheusText0.0.4"]
    assert job["kubernetes_sd_configs"][0]["kubeconfig_file"] == "/pki/prometheus.kubeconfig"
    addresses = {rule["regex"]: rule["replacement"] for rule in job["relabel_configs"] if "replacement" in rule}
    assert addresses == {"(?:prefill|decode|worker);(.+)": "${1}:30000", "(?:gateway);(.+)": "${1}:29000"}
    labels = {rule["target_label"] for rule in job["relabel_configs"] if "target_label" in rule}
    assert {"pod", "namespace", "role", "service"} <= labels


def test_an_own_prometheus_configuration_is_used_with_the_kubeconfig_filled_in(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("kubeconfig_file: ${HEADRACE_KUBECONFIG}\n")
    assert prometheus.config(Path("/k"), own) == "kubeconfig_file: /k\n"
