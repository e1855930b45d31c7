"""The engine's process: SGLang's own server with Headrace's routes. Each spawned child imports this module too."""

from headrace_engine import cpu_compat

cpu_compat.install()  # before SGLang is imported, in this process and in the spawned ones that import this module anew

import os  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import urllib.request  # noqa: E402
from pathlib import Path  # noqa: E402

from headrace_engine_config import EngineConfig, load_config  # noqa: E402
from headrace_engine_config.arguments import TABLES, command_line  # noqa: E402


def main(path: str) -> None:
    """Serve until SIGTERM; returns when SGLang's server has ended."""
    started_at = time.time()  # the engine's clock
    config = load_config(Path(path).read_text())
    from sglang.srt.entrypoints import http_server  # half a minute of imports, after the cheap checks
    from sglang.srt.plugins import load_plugins
    from sglang.srt.server_args import prepare_server_args

    from headrace_engine import plugin
    from headrace_engine.routes import add_metrics, add_routes

    load_plugins()
    if not plugin.HOOKED:
        raise SystemExit("headrace-engine: error: the hooks into SGLang did not load; see the log above")
    if missing := plugin.unhooked():
        raise SystemExit(f"headrace-engine: error: this SGLang has no {', '.join(missing)}; use {' or '.join(TABLES)}")
    add_routes(http_server.app, lambda: http_server._global_state.tokenizer_manager)

    def ready() -> None:
        add_metrics(started_at)
        if config.slow_down_seconds:
            _slow_down(config)
        print(f"headrace-engine: ready after {time.time() - started_at:.1f} s", flush=True)

    http_server.launch_server(prepare_server_args(command_line(config)), launch_callback=ready)


def _slow_down(config: EngineConfig) -> None:
    """Ask SGLang's own test endpoint for a sleep in each forward step."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{config.port}/slow_down",
        data=f'{{"forward_sleep_time": {config.slow_down_seconds}}}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310
        pass


if __name__ == "__main__":
    threading.current_thread().name = "headrace-engine"
    main(sys.argv[1])
    os._exit(0)  # SGLang's threads must not hold a process that has drained
