"""Names, help and the life of series."""

from prometheus_client import generate_latest

from headrace.api.roles import Role
from headrace.loops.keys import Key
from headrace.observability.metrics import Metrics


def test_every_metric_is_ours_in_base_units_and_explained() -> None:
    for family in Metrics().registry.collect():
        if family.name.startswith("process_"):
            continue
        assert family.name.startswith("headrace_")
        assert not family.name.endswith(("_ms", "_millis", "_minutes", "_percent"))
        assert len(family.documentation) > 30
        assert family.documentation.endswith(".")


def test_a_forgotten_service_leaves_no_series_and_others_keep_theirs() -> None:
    metrics = Metrics()
    for service in ("chat", "mail"):
        metrics.desired_replicas.labels("default", service, "decode").set(2)
        metrics.replicas.labels("default", service, "decode", "serving").set(2)
        metrics.signal_pods.labels("default", service, "fresh").set(2)
        metrics.decisions.labels("default", service, "decode", "Steady").inc()
    metrics.forget(Key("default", "chat"))
    text = generate_latest(metrics.registry).decode()
    assert 'service="chat"' not in text
    assert text.count('service="mail"') >= 4


def test_desired_replicas_are_those_of_the_roles_that_a_service_has_now() -> None:
    metrics = Metrics()
    metrics.desire(Key("default", "mail"), {Role.WORKER: 5})
    metrics.desire(Key("default", "chat"), {Role.PREFILL: 2, Role.DECODE: 3})
    metrics.desire(Key("default", "chat"), {Role.WORKER: 1})
    (family,) = (f for f in metrics.registry.collect() if f.name == "headrace_desired_replicas")
    found = {(s.labels["service"], s.labels["role"]): s.value for s in family.samples}
    assert found == {("mail", "worker"): 5, ("chat", "worker"): 1}


def test_two_operators_in_one_process_do_not_share_metrics() -> None:
    one, two = Metrics(), Metrics()
    one.leader.set(1)
    assert two.registry.get_sample_value("headrace_leader") == 0.0
