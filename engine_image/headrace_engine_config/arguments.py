"""From EngineConfig to the command line of SGLang's server, one table per SGLang version."""

from collections.abc import Callable, Mapping

from pydantic import JsonValue

from headrace_engine_config.config import EngineConfig, EngineConfigError

Arguments = dict[str, JsonValue]
# None leaves an argument out: SGLang's own default holds. True is a flag without a value.
Rule = Callable[[EngineConfig], JsonValue]


def _unless_one(value: int) -> int | None:
    return None if value == 1 else value


def _if_cpu(value: JsonValue) -> Rule:
    return lambda config: value if config.device == "cpu" else None


def _if_disaggregated(rule: Rule) -> Rule:
    return lambda config: None if config.role == "worker" else rule(config)


def _speculative(name: str) -> Rule:
    return lambda config: getattr(config.speculative, name) if config.speculative else None


def _cpu_memory_fraction(config: EngineConfig) -> float:
    """A tenth of a small machine leaves room for the other engines beside it, and is plenty for CPU models.

    Where the tokens are given the fraction bounds nothing, and must be wide: SGLang takes all memory that went
    while it loaded for its own weights, also what another engine took that started beside it, and gives up.
    """
    return 0.1 if config.max_total_tokens is None else 0.6


_SGLANG_0_5_23: Mapping[str, Rule] = {
    "model-path": lambda c: c.model_path,
    "served-model-name": lambda c: c.served_model_name,
    "revision": lambda c: c.model_revision,
    "host": lambda c: c.host,
    "port": lambda c: c.port,
    "device": lambda c: c.device,
    "log-level": lambda c: c.log_level,
    "tp-size": lambda c: _unless_one(c.parallelism.tensor),
    "dp-size": lambda c: _unless_one(c.parallelism.data),
    "ep-size": lambda c: _unless_one(c.parallelism.expert),
    "pp-size": lambda c: _unless_one(c.parallelism.pipeline),
    "mem-fraction-static": lambda c: c.mem_fraction_static or (_cpu_memory_fraction(c) if c.device == "cpu" else None),
    "max-total-tokens": lambda c: c.max_total_tokens,
    "max-running-requests": lambda c: c.max_running_requests,
    "chunked-prefill-size": lambda c: c.chunked_prefill_size,
    "context-length": lambda c: c.context_length,
    "page-size": lambda c: c.page_size,
    "kv-cache-dtype": lambda c: None if c.kv_cache_dtype == "auto" else c.kv_cache_dtype,
    "disable-radix-cache": lambda c: not c.radix_cache or None,
    "enable-metrics": lambda _: True,  # Headrace sizes by them
    "enable-cache-report": lambda _: True,  # cached tokens in a response's usage
    # Probes and scrapes come every second or two and would bury what an engine has to say.
    "uvicorn-access-log-exclude-prefixes": lambda _: ["/health", "/ready", "/metrics", "/v1/loads", "/headrace"],
    "speculative-algorithm": _speculative("algorithm"),
    "speculative-draft-model-path": _speculative("draft_model_path"),
    "speculative-num-steps": _speculative("steps"),
    "speculative-eagle-topk": _speculative("top_k"),
    "speculative-num-draft-tokens": _speculative("draft_tokens"),
    "disaggregation-mode": _if_disaggregated(lambda c: c.role),
    "disaggregation-bootstrap-port": _if_disaggregated(lambda c: c.bootstrap_port),
    "disaggregation-transfer-backend": _if_disaggregated(lambda c: c.transfer_backend),
    "attention-backend": _if_cpu("torch_native"),  # the AMX backend needs kernels that no registry has as a wheel
    "disable-overlap-schedule": _if_cpu(True),
    "sleep-on-idle": _if_cpu(True),  # an idle scheduler spins on a whole core otherwise
    "watchdog-timeout": _if_cpu(900),  # a first step on a crowded machine may take minutes
    # Without it a decode engine in a pod with a memory limit refuses to start: it reserves host memory for retractions.
    "disaggregation-decode-retraction-backup": lambda c: (
        "cpu_tensor" if c.device == "cpu" and c.role == "decode" else None
    ),
}

TABLES: Mapping[str, Mapping[str, Rule]] = {"0.5.23": _SGLANG_0_5_23}


def server_arguments(config: EngineConfig) -> Arguments:
    """SGLang's arguments by command-line name; raises EngineConfigError for a version without a table."""
    table = TABLES.get(config.sglang_version)
    if table is None:
        known = ", ".join(TABLES)
        raise EngineConfigError(f"sglangVersion: {config.sglang_version} is not supported; set one of: {known}")
    values = {name: rule(config) for name, rule in table.items()}
    return {
        name: value for name, value in (values | config.extra_args).items() if value is not None and value is not False
    }


def command_line(config: EngineConfig) -> list[str]:
    """The same as a list for an argument parser: `["--tp-size", "2", "--enable-metrics"]`."""
    line: list[str] = []
    for name, value in server_arguments(config).items():
        values = value if isinstance(value, list) else [value]
        line += [f"--{name}"] if value is True else [f"--{name}", *map(str, values)]
    return line
