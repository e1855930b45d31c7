"""`headrace version`."""

from importlib.metadata import version as version_of

import typer


def version() -> None:
    """Print the versions of Headrace and of what it stands on.

    Example: headrace version
    """
    for package in ("headrace", "headrace-engine", "kopf", "kubernetes", "pydantic"):
        typer.echo(f"{package} {version_of(package)}")
