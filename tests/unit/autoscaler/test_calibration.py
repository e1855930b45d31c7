"""When evidence about an engine is believed."""

from headrace.autoscaler.calibration import PrefillInterval, calibrate
from headrace.autoscaler.capacity import CapacityModel
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))


def interval(token_s: float) -> PrefillInterval:
    return PrefillInterval(10_000.0, 10_000 * token_s, 10_000 * token_s, True, 1000.0, 500.0)


def test_one_noisy_interval_does_not_throw_back_an_engine_that_is_far_from_its_prior() -> None:
    model = MODEL
    slow_s = 30 * MODEL.token_price_s(500.0)
    for _ in range(60):
        model = calibrate(model, [], [interval(slow_s)])
    assert model.prefill.trusted
    learned = model.token_price_s(500.0)
    assert learned > 20 * MODEL.token_price_s(500.0)
    noisy = calibrate(model, [], [interval(1.6 * slow_s)])
    assert noisy.prefill.error > 0.15
    assert noisy.token_price_s(500.0) > 0.9 * learned


def test_an_engine_that_changed_for_good_loses_trust() -> None:
    model = MODEL
    slow_s = 30 * MODEL.token_price_s(500.0)
    for _ in range(60):
        model = calibrate(model, [], [interval(slow_s)])
    model = calibrate(model, [], [interval(slow_s / 20)])
    model = calibrate(model, [], [interval(slow_s / 20)])
    assert not model.prefill.trusted
