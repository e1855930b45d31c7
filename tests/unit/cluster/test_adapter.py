import base64
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509

from headrace_cluster import adapter, pki
from headrace_cluster.layout import Layout


def test_the_adapter_listens_where_the_api_server_looks_for_it(tmp_path: Path) -> None:
    layout = Layout("demo", tmp_path)
    pki.write_all(layout.pki, "demo", "https://10.89.0.2:6443", [IPv4Address("10.89.0.2")])
    argv = adapter.component(Path("/cache/adapter"), layout, Path("/rules.yaml"), "http://prometheus:9090").argv
    objects = {manifest["kind"]: manifest for _, manifest in adapter.manifests(layout)}
    service, api = objects["Service"], objects["APIService"]["spec"]
    assert f"--secure-port={api['service']['port']}" in argv
    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == (
        api["service"]["name"],
        api["service"]["namespace"],
    )
    assert "--config=/rules.yaml" in argv
    certificate = x509.load_pem_x509_certificate((layout.pki / "metrics-adapter-server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [adapter.HOST]
    assert base64.b64decode(api["caBundle"]) == (layout.pki / "ca.crt").read_bytes()
    assert pki.CLIENTS[adapter.NAME][0] == adapter.USER


def test_the_adapter_is_available_once_the_api_server_says_so() -> None:
    assert not adapter.available(None)
    assert not adapter.available({"status": {"conditions": [{"type": "Available", "status": "False"}]}})
    assert adapter.available({"status": {"conditions": [{"type": "Available", "status": "True"}]}})
