from ipaddress import IPv4Network
from itertools import combinations

import pytest

from headrace_cluster.addresses import MAX_CLUSTERS, Plan, choose
from headrace_cluster.errors import ClusterError


def test_the_first_plan_uses_the_documented_addresses() -> None:
    plan = Plan(0)
    assert (str(plan.host_ip), str(plan.node_ip), str(plan.link)) == ("10.89.0.1", "10.89.0.2", "10.89.0.0/30")
    assert (str(plan.pods), str(plan.bridge_ip)) == ("10.88.0.0/20", "10.88.0.1")
    assert (str(plan.services), str(plan.kubernetes_ip)) == ("10.96.0.0/20", "10.96.0.1")
    assert plan.api_url == "https://10.89.0.2:6443"


def test_no_two_plans_overlap() -> None:
    ranges = [network for index in range(MAX_CLUSTERS) for network in Plan(index).ranges]
    assert not [pair for pair in combinations(ranges, 2) if pair[0].overlaps(pair[1])]


@pytest.mark.parametrize(
    ("taken", "index"),
    [
        ([], 0),
        (["192.168.0.0/16", "172.17.0.0/16"], 0),
        (["10.88.0.0/20"], 1),
        (["10.89.0.0/30", "10.96.16.0/20"], 2),
        (["10.88.0.0/17"], 8),
    ],
)
def test_the_first_plan_free_of_the_machines_routes_is_chosen(taken: list[str], index: int) -> None:
    assert choose(map(IPv4Network, taken)) == Plan(index)


def test_a_machine_that_routes_everything_is_told_so() -> None:
    with pytest.raises(ClusterError, match=r"No free addresses.*ip route"):
        choose([IPv4Network("10.0.0.0/8")])
