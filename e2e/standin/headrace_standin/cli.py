"""`headrace-standin serve --config engine.json`: the same configuration file as the real engine's."""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

from aiohttp import web

from headrace_engine.drain import wait_until_quiet
from headrace_engine_config import EngineConfigError, load_config
from headrace_standin.app import StandIn, application

BAD_CONFIG = 78  # as the real engine
# Streams left after the drain's deadline are given up: aiohttp would wait a minute more for them.
SHUTDOWN_S = 1.0


async def serve(engine: StandIn) -> None:
    """Serve until SIGTERM and the end of the last request, bounded by the configuration."""
    # With cancellation a request whose client has gone leaves the queue, as it does in SGLang.
    runner = web.AppRunner(application(engine), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    await web.TCPSite(runner, engine.config.host, engine.config.port).start()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    engine.ending = True
    await wait_until_quiet(lambda: len(engine.open), engine.config.termination_drain_seconds, time.monotonic)
    await runner.cleanup()


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser("headrace-standin", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("serve", help="serve until SIGTERM")
    command.add_argument("--config", required=True, type=Path, help="engine.json")
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config.read_bytes())
    except (EngineConfigError, OSError) as error:
        print(f"headrace-standin: error: {error}", file=sys.stderr)
        return BAD_CONFIG
    if crash := config.extra_args.get("standin-crash"):
        print(f"headrace-standin: error: {crash}", file=sys.stderr)
        return 1
    asyncio.run(serve(StandIn(config)))
    return 0
