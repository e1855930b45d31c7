"""Deployments grow and shrink their pods, without ReplicaSets: enough for who counts pods and waits for Ready."""

import asyncio
import copy
import hashlib
import json
import uuid

from headrace.kube.kinds import POD
from headrace_fakes.apiserver.fields import Object
from headrace_fakes.apiserver.store import Change, Store, StoreKey, stamp

OWNER = ("kube-controller-manager", "Update", "")
HASH = "pod-template-hash"


class DeploymentController:
    """Runs on the store's changes. Pods become Ready after `ready_after_s`; None: never."""

    def __init__(self, store: Store, ready_after_s: float | None) -> None:
        self.store = store
        self.ready_after_s = ready_after_s
        self._timers: set[asyncio.Handle] = set()
        store.hooks.append(self._on_change)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _later(self, delay_s: float, call: object, *args: object) -> None:
        self._timers.add(asyncio.get_running_loop().call_later(delay_s, call, *args))  # type: ignore[arg-type]

    def _on_change(self, change: Change) -> None:
        if change.key[0] == "deployments" and change.new is not None:
            self._later(0.0, self._sync, change.key)
        if change.key[0] == "pods":
            for owner in change.last["metadata"].get("ownerReferences", []):
                if owner["kind"] == "Deployment":
                    self._later(0.0, self._sync, ("deployments", change.key[1], owner["name"]))

    def _sync(self, key: StoreKey) -> None:
        if key not in self.store.objects or self.store.objects[key]["metadata"].get("deletionTimestamp"):
            return
        deployment = self.store.get(key)
        uid = deployment["metadata"]["uid"]
        template = json.dumps(deployment["spec"]["template"], sort_keys=True)
        revision = hashlib.sha256(template.encode()).hexdigest()[:8]
        wanted = deployment["spec"].get("replicas", 1)
        pods = [
            pod
            for pod in self.store.of("pods", key[1])
            if uid in {owner["uid"] for owner in pod["metadata"].get("ownerReferences", [])}
        ]
        for pod in [pod for pod in pods if pod["metadata"]["labels"][HASH] != revision]:
            pods.remove(pod)
            self._delete(pod)
        for pod in sorted(pods, key=deletion_order)[: max(0, len(pods) - wanted)]:
            pods.remove(pod)
            self._delete(pod)
        pods += [self._start(deployment, revision) for _ in range(wanted - len(pods))]
        ready = sum(is_ready(pod) for pod in pods)
        status = {"observedGeneration": deployment["metadata"]["generation"], "replicas": len(pods),
                  "updatedReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}  # fmt: skip
        if deployment.get("status") != status:
            self._write_status(key, status)

    def _start(self, deployment: Object, revision: str) -> Object:
        metadata, template = deployment["metadata"], deployment["spec"]["template"]
        name = f"{metadata['name']}-{revision}-{uuid.uuid4().hex[:5]}"
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"],
                 "controller": True}  # fmt: skip
        pod_metadata = copy.deepcopy(template.get("metadata") or {})
        pod_metadata["labels"] = {**pod_metadata.get("labels", {}), HASH: revision}
        pod_metadata |= {"name": name, "ownerReferences": [owner]}
        pod = self.store.create(
            POD, metadata["namespace"], {"metadata": pod_metadata, "spec": copy.deepcopy(template["spec"])}, OWNER
        )
        key = ("pods", metadata["namespace"], name)
        self._write_status(key, {"phase": "Pending"})
        if self.ready_after_s is not None:
            self._later(self.ready_after_s, self._make_ready, key)
        return pod

    def _make_ready(self, key: StoreKey) -> None:
        if key in self.store.objects:
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": stamp()}
            self._write_status(key, {"phase": "Running", "podIP": "127.0.0.1", "conditions": [condition]})

    def _write_status(self, key: StoreKey, status: Object) -> None:
        live = self.store.get(key)
        new = {**live, "status": status}
        self.store.replace(key, new, self.store.ownership[key].update(live, new, OWNER), status=True)

    def _delete(self, pod: Object) -> None:
        self.store.delete(("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]), {})


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def deletion_order(pod: Object) -> tuple[bool, int, int]:
    """As the ReplicaSet controller ranks: not ready first, then lower cost, then newer."""
    cost = (pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
    return is_ready(pod), int(cost), -int(pod["metadata"]["resourceVersion"])
