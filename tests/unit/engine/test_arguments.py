"""The table from engine.json to SGLang's command line, held against the installed SGLang."""

import argparse
import os
from collections.abc import Iterator

import pytest

from headrace_engine import cpu_compat
from headrace_engine_config import EngineConfigError, Parallelism
from headrace_engine_config.arguments import TABLES, command_line, server_arguments
from headrace_engine_config.config import DEFAULT_SGLANG_VERSION, Speculative

from .conftest import MakeConfig

QUIET = " --uvicorn-access-log-exclude-prefixes /health /ready /metrics /v1/loads /headrace"
METRICS = " --enable-metrics --enable-cache-report" + QUIET
START = "--model-path /models/tiny --served-model-name tiny --host 0.0.0.0 --port 30000 --device {} --log-level info"
ON_CPU = " --attention-backend torch_native --disable-overlap-schedule --sleep-on-idle --watchdog-timeout 900"
PAIR = " --disaggregation-mode {} --disaggregation-bootstrap-port 8998 --disaggregation-transfer-backend mooncake"
GOLDEN = {
    ("worker", "cpu"): START.format("cpu") + " --mem-fraction-static 0.1" + METRICS + ON_CPU,
    ("prefill", "cpu"): START.format("cpu") + " --mem-fraction-static 0.1" + METRICS + PAIR.format("prefill") + ON_CPU,
    ("decode", "cpu"): START.format("cpu")
    + " --mem-fraction-static 0.1"
    + METRICS
    + PAIR.format("decode")
    + ON_CPU
    + " --disaggregation-decode-retraction-backup cpu_tensor",
    ("worker", "cuda"): START.format("cuda") + METRICS,
    ("prefill", "cuda"): START.format("cuda") + METRICS + PAIR.format("prefill"),
    ("decode", "cuda"): START.format("cuda") + METRICS + PAIR.format("decode"),
}


@pytest.mark.parametrize(("role", "device"), list(GOLDEN))
def test_the_command_line_of_each_role_on_each_device(config: MakeConfig, role: str, device: str) -> None:
    assert " ".join(command_line(config(role=role, device=device))) == GOLDEN[role, device]


def test_given_tokens_on_cpu_leave_room_for_what_starts_beside(config: MakeConfig) -> None:
    assert server_arguments(config(device="cpu", max_total_tokens=8192))["mem-fraction-static"] == 0.6
    assert server_arguments(config(device="cuda", max_total_tokens=8192)).get("mem-fraction-static") is None


def test_every_setting_reaches_its_own_argument(config: MakeConfig) -> None:
    full = config(
        role="decode",
        device="cuda",
        model_revision="v2",
        port=31000,
        bootstrap_port=9000,
        transfer_backend="nixl",
        parallelism=Parallelism(tensor=8, data=4, expert=8, pipeline=2),
        mem_fraction_static=0.85,
        max_total_tokens=100000,
        max_running_requests=256,
        chunked_prefill_size=-1,
        context_length=32768,
        page_size=64,
        kv_cache_dtype="fp8_e4m3",
        radix_cache=False,
        speculative=Speculative(algorithm="EAGLE", draft_model_path="/draft", steps=2, top_k=4, draft_tokens=8),
        log_level="warning",
    )
    line = " ".join(command_line(full))
    for part in (
        "--revision v2", "--port 31000", "--disaggregation-bootstrap-port 9000",
        "--disaggregation-transfer-backend nixl", "--tp-size 8", "--dp-size 4", "--ep-size 8", "--pp-size 2",
        "--mem-fraction-static 0.85", "--max-total-tokens 100000", "--max-running-requests 256",
        "--chunked-prefill-size -1", "--context-length 32768", "--page-size 64", "--kv-cache-dtype fp8_e4m3",
        "--disable-radix-cache", "--speculative-algorithm EAGLE", "--speculative-draft-model-path /draft",
        "--speculative-num-steps 2", "--speculative-eagle-topk 4", "--speculative-num-draft-tokens 8",
        "--log-level warning",
    ):  # fmt: skip
        assert f" {part} " in f" {line} "


def test_extra_arguments_win_add_and_take_away(config: MakeConfig) -> None:
    extra = {
        "attention-backend": "triton",  # replaced
        "sleep-on-idle": False,  # taken away
        "watchdog-timeout": None,  # back to SGLang's own default
        "trust-remote-code": True,  # added
        "cuda-graph-bs": [1, 2, 4],
    }
    arguments = server_arguments(config(extra_args=extra))
    assert arguments["attention-backend"] == "triton"
    assert not {"sleep-on-idle", "watchdog-timeout"} & arguments.keys()
    assert command_line(config(extra_args=extra))[-5:] == ["--trust-remote-code", "--cuda-graph-bs", "1", "2", "4"]


def test_a_version_without_a_table_is_refused_with_those_that_have_one(config: MakeConfig) -> None:
    with pytest.raises(EngineConfigError, match=r"sglangVersion: 0\.4\.0 is not supported; set one of: 0\.5\.23"):
        command_line(config(sglang_version="0.4.0"))


def test_the_default_version_has_a_table() -> None:
    assert DEFAULT_SGLANG_VERSION in TABLES


@pytest.fixture(scope="module")
def sglang_parser() -> Iterator[argparse.ArgumentParser]:
    """The parser of the installed SGLang: seconds of imports, so once for the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cpu_compat.DEVICE_VARIABLE, "cpu")
        patch.setenv("SGLANG_USE_CPU_ENGINE", "1")
        before = dict(os.environ)
        cpu_compat.install()
        from sglang.srt.server_args import ServerArgs

        parser = argparse.ArgumentParser(exit_on_error=False)
        ServerArgs.add_cli_args(parser)
        yield parser
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


@pytest.mark.filterwarnings("ignore")  # other projects' modules warn at import
class TestInstalledSglang:
    def test_its_version_is_the_tables(self) -> None:
        from importlib.metadata import version

        assert version("sglang") in TABLES

    def test_it_has_every_argument_of_the_table(self, sglang_parser: argparse.ArgumentParser) -> None:
        known = {option for action in sglang_parser._actions for option in action.option_strings}
        missing = {f"--{name}" for name in TABLES[DEFAULT_SGLANG_VERSION]} - known
        assert not missing

    @pytest.mark.parametrize(("role", "device"), list(GOLDEN))
    def test_it_parses_each_command_line(
        self, sglang_parser: argparse.ArgumentParser, config: MakeConfig, role: str, device: str
    ) -> None:
        parsed = sglang_parser.parse_args(command_line(config(role=role, device=device, chunked_prefill_size=-1)))
        assert parsed.chunked_prefill_size == -1
        assert parsed.enable_metrics
        assert parsed.disaggregation_mode == ("null" if role == "worker" else role)

    @pytest.mark.parametrize("value", ["mooncake", "mooncake_tcp", "nixl"])
    def test_it_knows_each_transfer_backend(
        self, sglang_parser: argparse.ArgumentParser, config: MakeConfig, value: str
    ) -> None:
        line = command_line(config(role="prefill", transfer_backend=value))
        assert sglang_parser.parse_args(line).disaggregation_transfer_backend == value

    @pytest.mark.parametrize("value", ["auto", "fp8_e4m3", "fp8_e5m2", "bf16"])
    def test_it_knows_each_kv_cache_type(
        self, sglang_parser: argparse.ArgumentParser, config: MakeConfig, value: str
    ) -> None:
        assert sglang_parser.parse_args(command_line(config(kv_cache_dtype=value))).kv_cache_dtype in (value, "auto")

    @pytest.mark.parametrize("value", ["EAGLE", "EAGLE3", "NEXTN"])
    def test_it_knows_each_speculative_algorithm(
        self, sglang_parser: argparse.ArgumentParser, config: MakeConfig, value: str
    ) -> None:
        line = command_line(config(speculative=Speculative(algorithm=value)))
        assert sglang_parser.parse_args(line).speculative_algorithm == value
