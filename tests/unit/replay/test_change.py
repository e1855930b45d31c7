"""`--set NAME=VALUE`: every name, its unit, and what is said of anything else."""

import pytest
import typer

from headrace.api.roles import Role
from headrace.autoscaler.replay import Change
from headrace.cli.replay.change import KNOWN, change_of


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ("objective.ttft=1s", Change(ttft_s=1.0)),
        ("objective.ttft=500ms", Change(ttft_s=0.5)),
        ("objective.ttft-per-1k=0.25", Change(ttft_per_1k_prompt_s=0.25)),
        ("objective.tpot = 20ms", Change(tpot_s=0.02)),
        ("objective.percentile=99", Change(percentile=99.0)),
        ("headroom=1.3", Change(headroom=1.3)),
        ("gpu-budget=16", Change(gpu_budget=16.0)),
        ("startup=3m", Change(startup_s=180.0)),
        ("Scale-Down-Window=0", Change(scale_down_window_s=0.0)),
        ("max-starting=2", Change(max_starting=2)),
        ("prefill.max=8", Change(most={Role.PREFILL: 8})),
        ("worker.min=2", Change(least={Role.WORKER: 2})),
    ],
)
def test_each_name_sets_its_field_in_its_unit(setting: str, change: Change) -> None:
    assert change_of([setting]) == change


def test_settings_add_up_and_the_later_one_wins() -> None:
    found = change_of(["prefill.max=8", "prefill.min=2", "decode.max=4", "startup=60", "startup=90"])
    assert found == Change(startup_s=90.0, least={Role.PREFILL: 2}, most={Role.PREFILL: 8, Role.DECODE: 4})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.ttf=1s", '"objective.ttf" is not a name; did you mean objective.ttft'),
        ("bananas=1", f'"bananas" is not a name; there are {", ".join(KNOWN)}'),
        ("prefill.max", '"prefill.max" has no value; write prefill.max=VALUE'),
        ("prefill.max=many", 'prefill.max: "many" is not a number'),
        ("prefill.max=2.5", 'prefill.max: "2.5" is not a number'),
        ("decode.min=0", "decode.min: must be at least 1"),
        ("objective.percentile=101", "objective.percentile: must be 50 to 99.9"),
        ("objective.ttft=0s", "objective.ttft: must be at least 0.001"),
        ("startup=soon", 'startup: "soon" is not a duration; set one such as "2s"'),
        ("headroom=nan", "headroom: must be at least 0.1"),
    ],
)
def test_anything_else_is_refused_with_the_name_and_the_mend(setting: str, message: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        change_of([setting])
    assert message in str(refused.value)
