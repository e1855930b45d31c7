"""What arrived before an answer was seen is priced anew when answers are."""

import numpy as np
import pytest

from headrace.autoscaler.history import History
from headrace.autoscaler.lengths import LengthLaw
from headrace.autoscaler.prompts import PromptLaw
from headrace.autoscaler.reprice import reprice
from headrace_engine_config.length_class import LENGTH_CLASSES

COLUMNS = [[1.0, 2.0], [10.0, 20.0], [1.0, 1.0], [1.0, 1.0], [10.0, 20.0], [256.0, 512.0], [9.0, 9.0], [1.0, 1.0]]
HISTORY = History(100, np.array(COLUMNS))
PROMPTS = PromptLaw((3.0, *(0.0,) * (LENGTH_CLASSES - 1)), (30.0, *(0.0,) * (LENGTH_CLASSES - 1)))


def law(mean: float) -> LengthLaw:
    return LengthLaw(
        1.0, 10.0, 10.0,
        (mean,) * LENGTH_CLASSES, (2 * mean**2,) * LENGTH_CLASSES, (6 * mean**3,) * LENGTH_CLASSES,
    )  # fmt: skip


def test_answers_ten_times_as_long_count_ten_times() -> None:
    found = reprice(HISTORY, PROMPTS, law(100.0), law(1000.0))
    assert found.columns[5].tolist() == pytest.approx([2560.0, 5120.0])
    # size 10: 10 x 100 + 10,000 = 11,000 KV tokens over all steps become 10 x 1,000 + 1,000,000
    assert found.columns[6, 0] / HISTORY.columns[6, 0] == pytest.approx(1_010_000 / 11_000)
    assert found.columns[:5].tolist() == COLUMNS[:5]
    assert HISTORY.columns.tolist() == COLUMNS


def test_the_same_law_or_no_prompts_change_nothing() -> None:
    same = law(100.0)
    assert reprice(HISTORY, PROMPTS, same, same) is HISTORY
    assert reprice(HISTORY, PromptLaw(), same, law(5.0)) is HISTORY
    assert reprice(History(), PROMPTS, same, law(5.0)) == History()
