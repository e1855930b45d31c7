"""`python -m e2e.load`: offer load to one address and print what became of it."""

import argparse
import asyncio
import json
import sys
from contextlib import nullcontext
from pathlib import Path

from e2e.load.generator import LoadGenerator
from e2e.load.phases import Phase, parse_phase
from e2e.load.prompts import PromptMaker, tokenizer_of
from e2e.load.results import by_phase, summarise

EXAMPLE = """example:
  python -m e2e.load --url http://127.0.0.1:8080 --model tiny --tokenizer ./tiny-model \\
      --phase rate=1,duration=30,prompt=128,output=32 --phase rate=6,duration=60,prompt=512,output=64
"""


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.load", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", required=True, help="the gateway's address; requests go nowhere else")
    parser.add_argument("--model", required=True, help="the served model's name")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the model's folder (tokenizer.json)")
    parser.add_argument("--phase", action="append", required=True, help="rate=,duration=,prompt=,output=[,shared=]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-in-flight", type=int, default=256)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one request")
    parser.add_argument("--out", type=Path, help="one JSON line for each request")
    return parser.parse_args(argv)


async def _run(args: argparse.Namespace, phases: list[Phase]) -> int:
    prompts = PromptMaker(tokenizer_of(args.tokenizer), args.seed)
    with args.out.open("wb") if args.out else nullcontext() as file:
        generator = LoadGenerator(
            args.url,
            args.model,
            prompts,
            seed=args.seed,
            max_in_flight=args.max_in_flight,
            timeout_s=args.timeout,
            results_file=file,
        )
        async with generator:
            for phase in phases:
                await generator.run_phase(phase)
            await generator.finish(args.timeout + 10)  # every request ends by its own limit; 10 s to note it
    report = {**summarise(generator.results), "phases": by_phase(generator.results)}
    print(json.dumps(report, indent=2))
    return 0 if report["ok"] == len(generator.sent_at) else 1


def main() -> int:
    """Run the phases; the exit status is 0 only if every request was answered whole."""
    args = _arguments(sys.argv[1:])
    try:
        phases = [parse_phase(text, f"{number}-{text}") for number, text in enumerate(args.phase, start=1)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return asyncio.run(_run(args, phases))


if __name__ == "__main__":
    sys.exit(main())
