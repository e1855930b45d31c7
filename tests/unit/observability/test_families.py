"""A table of metrics: each object has its own, all of them from the start, and a service's series go together."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from headrace.loops.keys import Key
from headrace.observability.families import OF_ROLE, Families, Family


class Two(Families):
    passes = Family(Counter, "passes_total", "Passes.", ("kind",))
    replicas = Family(Gauge, "replicas", "Replicas.", OF_ROLE)


def test_all_metrics_are_registered_before_one_is_used_in_the_order_of_the_table() -> None:
    two = Two(CollectorRegistry())
    assert [family.name for family in two.registry.collect()] == ["passes", "replicas"]
    assert two.passes is two.passes


def test_objects_do_not_share_metrics() -> None:
    one, other = Two(CollectorRegistry()), Two(CollectorRegistry())
    one.passes.labels("Pod").inc()
    assert b"Pod" not in generate_latest(other.registry)


def test_forgetting_a_service_keeps_other_services_and_what_is_of_none() -> None:
    two = Two(CollectorRegistry())
    two.passes.labels("chat").inc()
    for service in ("chat", "mail"):
        two.replicas.labels("default", service, "decode").set(1)
    two.forget(Key("default", "chat"))
    text = generate_latest(two.registry).decode()
    assert 'passes_total{kind="chat"} 1.0' in text
    assert 'service="mail"' in text
    assert 'service="chat"' not in text
