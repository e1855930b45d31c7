"""`headrace-engine`: serve a model by a configuration file, or make the tiny model of the demo and the tests."""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from headrace_engine_config import EngineConfigError, load_config
from headrace_engine_config.arguments import TABLES, command_line

BAD_CONFIG = 78  # EX_CONFIG: the kubelet shows it, and no restart mends it
EXAMPLES = """examples:
  headrace-engine serve --config /etc/headrace/engine.json
  headrace-engine serve --config engine.json --dry-run      # the SGLang command line it would run
  headrace-engine make-tiny-model --out /tmp/tiny
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser("headrace-engine", description=__doc__, epilog=EXAMPLES, formatter_class=_RAW)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a model with SGLang", epilog=EXAMPLES, formatter_class=_RAW)
    serve.add_argument("--config", required=True, type=Path, help="engine.json, written by the operator")
    serve.add_argument("--dry-run", action="store_true", help="print SGLang's command line and end")
    make = commands.add_parser(
        "make-tiny-model",
        help="make a tiny random model with a tokenizer of its own",
        epilog="example: headrace-engine make-tiny-model --out /tmp/tiny --architecture llama",
    )
    make.add_argument("--out", required=True, type=Path, help="directory to write to")
    make.add_argument("--architecture", choices=("qwen3", "llama"), default="qwen3")
    make.add_argument("--seed", type=int, default=0, help="of the weights; equal seeds give equal files")
    commands.add_parser(
        "version",
        help="versions of Headrace's engine and of the SGLang it knows",
        epilog="example: headrace-engine version",
    )
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except (EngineConfigError, OSError) as error:
        print(f"headrace-engine: error: {error}", file=sys.stderr)
        return BAD_CONFIG


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "make-tiny-model":
        from headrace_engine.tiny_model import make_tiny_model  # torch takes seconds to import

        print(make_tiny_model(arguments.out, arguments.architecture, arguments.seed))
        return 0
    if arguments.command == "version":
        print(f"headrace-engine {version('headrace-engine')}, SGLang {', '.join(TABLES)}")
        return 0
    from headrace_engine.checks import check_model
    from headrace_engine.supervisor import Supervisor

    config = load_config(arguments.config.read_bytes())
    line = command_line(config)
    if arguments.dry_run:
        print(" ".join(["sglang.launch_server", *line]))
        return 0
    check_model(config)
    return Supervisor(config, str(arguments.config)).run()


_RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
