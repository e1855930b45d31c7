"""Phases, arrivals and prompts."""

from itertools import pairwise

import pytest

from e2e.load.phases import Phase, arrivals, parse_phase
from e2e.load.prompts import PromptMaker


def phase(**changes: object) -> Phase:
    values = {"name": "p", "rate_rps": 5.0, "duration_s": 200.0, "prompt_tokens": 50, "output_tokens": 8, **changes}
    return Phase(**values)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    first, again, other = (list(arrivals(phase(), seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_poisson_arrivals_come_at_about_the_rate_and_end_with_the_phase() -> None:
    times = [arrival.after_s for arrival in arrivals(phase(), 3)]
    assert 900 < len(times) < 1100  # 5 requests a second for 200 s: 1000, with a standard deviation of 32
    assert all(a < b for a, b in pairwise(times))
    assert times[-1] <= 200


def test_even_arrivals_are_one_gap_apart_and_numbered_from_first() -> None:
    made = list(arrivals(phase(rate_rps=2.0, duration_s=2.0, poisson=False), 0, first=7))
    assert [(a.number, a.after_s) for a in made] == [(7, 0.5), (8, 1.0), (9, 1.5), (10, 2.0)]


def test_a_phase_is_read_from_text() -> None:
    read = parse_phase("rate=4,duration=60,prompt=128,output=32,shared=0.5,spacing=even", "high")
    assert read == Phase("high", 4.0, 60.0, 128, 32, 0.5, poisson=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate=4", "duration, output, prompt missing"),
        ("rate=4,duration=1,prompt=1,output=1,burst=2", "unknown burst"),
        ("rate=0,duration=1,prompt=1,output=1", "rate must be at least"),
        ("rate=1,duration=1,prompt=0,output=1", "prompt and output must be at least 1"),
        ("rate=1,duration=1,prompt=1,output=1,spacing=odd", "spacing must be poisson or even"),
    ],
)
def test_a_wrong_phase_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_phase(text, "p")


def encode(text: str) -> list[int]:
    """Two characters a token within each word, the space belonging to its word: additive over words, as BPE is."""
    return [0 for word in text.split() for _ in range((len(word) + 1) // 2)]


@pytest.mark.parametrize("tokens", [10, 57, 400])
def test_prompts_have_the_wished_length(tokens: int) -> None:
    maker = PromptMaker(encode, seed=1)
    for number in range(20):
        assert tokens - 1 <= maker.count(maker.make(number, tokens)) <= tokens


def test_prompts_differ_from_their_first_word_on_unless_a_prefix_is_shared() -> None:
    maker = PromptMaker(encode, seed=1)
    heads = {maker.make(number, 60).split()[0] for number in range(30)}
    assert len(heads) == 30
    shared = {tuple(maker.make(number, 60, 0.5).split()[:6]) for number in range(30)}
    assert len(shared) == 1
    assert len({maker.make(number, 60, 0.5) for number in range(30)}) == 30


def test_the_template_s_tokens_are_learned_from_an_answer() -> None:
    maker = PromptMaker(encode, seed=1)
    asked = maker.count(maker.make(0, 60))
    maker.set_overhead(60, 60 + 9)
    assert asked - 10 <= maker.count(maker.make(0, 60)) <= asked - 8
