"""`headrace plan`: what an InferenceService would create, before it is applied."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml

from headrace.api.errors import SpecError
from headrace.api.v1alpha1 import InferenceService
from headrace.catalog.accelerators import UnknownAccelerator, lookup
from headrace.cli.forecast import Forecast, forecast
from headrace.desired.build import build
from headrace.desired.settings import DesiredSettings
from headrace.kube.interface import Manifest
from headrace.modelsource.config import read_model
from headrace.modelsource.prior import prior

EXIT_USAGE = 2

File = Annotated[Path, typer.Argument(metavar="FILE", help="YAML with InferenceServices; - reads standard input.")]
ModelConfig = Annotated[
    Path | None, typer.Option("--model-config", help="Folder with the model's config.json, where it is not local.")
]
Manifests = Annotated[bool, typer.Option("--manifests", help="Print the manifests themselves, as YAML.")]
AsJson = Annotated[bool, typer.Option("--json", help="The plan as JSON.")]


def plan(file: File, model_config: ModelConfig = None, manifests: Manifests = False, as_json: AsJson = False) -> None:
    """Show what an InferenceService would create: objects, accelerators, expected capacity, and problems.

    Needs no cluster. Exit status 1 where a problem would keep it from being served.

    Example: headrace plan crds/samples/disaggregated.yaml --model-config ./Qwen3-8B
    """
    plans = [_plan(document, model_config) for document in _documents(file)]
    if manifests:
        typer.echo(
            yaml.safe_dump_all([child for _, children, _ in plans for child in children], sort_keys=False), nl=False
        )
    elif as_json:
        typer.echo(json.dumps([as_data(*each) for each in plans], indent=2))
    else:
        typer.echo("\n\n".join(describe(*each) for each in plans))
    if any(problem.fatal for _, _, found in plans for problem in found.problems):
        raise typer.Exit(1)


def _documents(file: Path) -> list[Manifest]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, yaml.YAMLError) as error:
        _fail(f"{file}: {error}")
    if not documents or not all(isinstance(document, dict) for document in documents):
        _fail(f"{file} holds no Kubernetes object; give a file like crds/samples/disaggregated.yaml")
    return documents


def _plan(document: Manifest, folder: Path | None) -> tuple[InferenceService, tuple[Manifest, ...], Forecast]:
    try:
        service = InferenceService.parse(document, strict=True)
        children = build(service, DesiredSettings())
        accelerator = lookup(service.spec.accelerator)
    except (SpecError, UnknownAccelerator) as error:
        _fail("\n".join(map(str, getattr(error, "problems", [error]))))
    spec = service.spec
    if folder is not None:
        local = spec.model.model_copy(update={"source": f"file://{folder.resolve()}", "revision": None})
        spec = spec.model_copy(update={"model": local})

    async def ask() -> Forecast:
        return forecast(service, accelerator, await read_model(spec.model.location), await prior(spec))

    return service, children, asyncio.run(ask())


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_USAGE)


def as_data(service: InferenceService, children: tuple[Manifest, ...], expected: Forecast) -> dict[str, Any]:
    """The plan as plain data."""
    objects = [{"kind": child["kind"], "name": child["metadata"]["name"]} for child in children]
    return {"service": service.key, "creates": objects, **asdict(expected)}


def describe(service: InferenceService, children: tuple[Manifest, ...], expected: Forecast) -> str:
    """The plan for people."""
    lines = [f"{service.key}: {service.spec.topology}, model {service.spec.model.source}", "", "creates:"]
    lines += [f"  {child['kind']:<20} {child['metadata']['name']}" for child in children]
    lines += ["", f"expected of one replica ({expected.basis}):"]
    lines += [f"  {name:<34} {value:,.4g}" for name, value in expected.figures.items()]
    lines += ["", "pools:"]
    for pool in expected.pools:
        unit = f" x {pool.accelerators} {pool.resource}" if pool.resource else " on CPU"
        lines.append(f"  {pool.role:<8} {pool.minimum} to {pool.maximum} replicas{unit}")
    lines += [f"  accelerators in all: {expected.accelerators_min} to {expected.accelerators_max}", ""]
    lines += [f"{'PROBLEM' if p.fatal else 'note'}: {p.message}" for p in expected.problems] or ["no problem found"]
    return "\n".join(lines)
