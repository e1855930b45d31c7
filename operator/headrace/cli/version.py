"""`headrace version`: what is installed."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

# What the operator stands on; the engine's own versions are in its image (`headrace-engine version`).
PACKAGES = ("headrace", "headrace-engine", "kopf", "kubernetes", "prometheus-api-client", "pydantic", "tenacity")


def version(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Print the versions of Headrace and of what it stands on.

    Example: headrace version --json
    """
    found = versions(PACKAGES)
    if as_json:
        import json  # noqa: PLC0415  only here

        typer.echo(json.dumps(found, indent=2))
        return
    for name, number in found.items():
        typer.echo(f"{name} {number}")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed version of each package; "not installed" where it is missing."""
    found = {}
    for name in packages:
        try:
            found[name] = installed_version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
