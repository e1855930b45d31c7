"""What is said when the spec, the cluster or the pods are wrong; what runs goes on running."""

from pathlib import Path
from typing import Any

import pytest
from headrace_fakes.apiserver.server import Fault

from headrace.kube.interface import KubeError

World = Any


async def test_an_invalid_spec_stalls_with_field_and_mend_and_keeps_the_children(world: World) -> None:
    await world.apply()
    await world.steps(3)
    children = world.versions()
    await world.apply(prefill={"replicas": {"min": 3, "max": 2}})
    await world.step()
    stalled = await world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    assert "spec.prefill.replicas" in stalled["message"]
    assert {k: v for k, v in world.versions().items() if k[0] == "deployments"} == {
        k: v for k, v in children.items() if k[0] == "deployments"
    }
    await world.apply()
    await world.steps(2)
    assert (await world.condition("Stalled"))["status"] == "False"
    assert (await world.condition("Ready"))["status"] == "True"


async def test_an_unknown_accelerator_is_named_with_the_known_ones(world: World) -> None:
    await world.apply(accelerator="nvidia-h1000")
    await world.step()
    stalled = await world.condition("Stalled")
    assert stalled["reason"] == "UnknownAccelerator"
    assert "nvidia-h1000" in stalled["message"]
    assert "nvidia-h100" in stalled["message"]


async def test_a_model_folder_without_config_is_said(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    await world.apply(model={"source": f"file://{folder}"})
    await world.step()
    stalled = await world.condition("Stalled")
    assert stalled["reason"] == "ModelInvalid"
    assert "config.json" in stalled["message"]
    assert str(folder) in stalled["message"]


async def test_a_refused_child_is_told_in_the_servers_words_and_retried(world: World) -> None:
    await world.apply()
    world.server.faults.append(Fault(422, times=1, method="PATCH", contains="configmaps"))
    with pytest.raises(KubeError):
        await world.step()
    stalled = await world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "APIRejected")
    assert "configmaps" in stalled["message"]
    await world.steps(3)
    assert (await world.condition("Stalled"))["status"] == "False"


async def test_a_missing_permission_is_told(world: World) -> None:
    await world.apply()
    world.server.faults.append(Fault(403, times=1, method="PATCH", contains="networkpolicies"))
    with pytest.raises(KubeError):
        await world.step()
    assert (await world.condition("Stalled"))["reason"] == "Forbidden"


async def test_a_crash_looping_engine_is_said_with_its_last_words(world: World) -> None:
    world.server.deployments.ready_after_s = None
    await world.apply()
    await world.step()
    name = world.live_pods("prefill")[0]["metadata"]["name"]
    crashed = {"exitCode": 3, "message": "loading\nCUDA is out of luck\n"}
    container = {
        "name": "engine",
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": crashed},
    }
    status = {"phase": "Running", "containerStatuses": [container]}
    world.server.deployments._write_status(("pods", "default", name), status)
    await world.step()
    condition = await world.condition("PrefillReady")
    assert (condition["status"], condition["reason"]) == ("False", "EngineCrashLoop")
    assert f"container engine of pod {name} exited with code 3: CUDA is out of luck" in condition["message"]
    assert (await world.condition("Ready"))["reason"] == "EngineCrashLoop"
    assert any("CUDA is out of luck" in event["note"] for event in await world.events())


async def test_a_malformed_status_of_another_writer_is_replaced(world: World) -> None:
    await world.apply()
    await world.steps(2)
    bad = {"apiVersion": "headrace.dev/v1alpha1", "kind": "InferenceService",
           "metadata": {"name": "chat", "namespace": "default"}, "status": {"observedGeneration": "many"}}  # fmt: skip
    await world.kube.apply_status(bad, "somebody")
    await world.step()
    assert (await world.service())["status"]["observedGeneration"] == 1
