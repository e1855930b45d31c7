"""One replica for the pods of one engine: an engine that spans several nodes has a leader and workers.

Only the leader has an HTTP server and a place in the gateway. Counting its workers as replicas would dilute every mean
and report them as silent for ever.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from headrace.reconcile.pods import PodView


def replicas(pods: Iterable[PodView]) -> list[PodView]:
    """A view for each replica, in the order of the pods: lone pods as they are, groups under their leader's name."""
    groups: dict[str, list[PodView]] = defaultdict(list)
    for pod in pods:
        groups[f"{pod.role}/{pod.group}" if pod.group else f"{pod.role}//{pod.name}"].append(pod)
    return [_merged(members) if members[0].group else members[0] for members in groups.values()]


def _merged(members: Sequence[PodView]) -> PodView:
    """The replica as a whole: ready when the last one is, in trouble with the first one that is.

    A leader created at 100 s and ready at 160 s whose worker is ready at 190 s: created 100, ready 190.
    """
    ordered = sorted(members, key=lambda pod: pod.worker_index)
    leader = ordered[0]
    complete = leader.worker_index == 0 and len(members) >= leader.group_size
    ready = complete and all(pod.ready for pod in members)
    drains = [pod.draining_since for pod in members if pod.draining_since is not None]
    return replace(
        leader,
        created_at=min(pod.created_at for pod in members),
        ready=ready,
        ready_at=max(pod.ready_at or 0.0 for pod in members) if ready else None,
        scheduled=complete and all(pod.scheduled for pod in members),
        terminating=any(pod.terminating for pod in members),
        draining=any(pod.draining for pod in members),
        draining_since=min(drains, default=None),
        ip=leader.ip if leader.worker_index == 0 else "",
        never_served=any(pod.never_served for pod in members),
        engine_down=any(pod.engine_down for pod in members),
        trouble=next((pod.trouble for pod in ordered if pod.trouble), None),
    )
