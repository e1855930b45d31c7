"""`headrace operator`: the process that runs in the cluster."""

from typing import Annotated

import typer

from headrace.settings import PREFIX, Settings, SettingsError

EXIT_USAGE = 2

ShowSettings = Annotated[bool, typer.Option("--settings", help="Print every variable, its default and why; then end.")]


def operator(show_settings: ShowSettings = False) -> None:
    """Run the operator until SIGTERM, configured by HEADRACE_* variables (--settings lists them).

    The cluster is that of $KUBECONFIG where it is set, else the one whose pod this is, else ~/.kube/config.

    Example: HEADRACE_NAMESPACES=default HEADRACE_LOG_LEVEL=debug headrace operator
    """
    if show_settings:
        typer.echo(describe())
        return
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        typer.echo(f"headrace operator: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    from headrace.main import main  # noqa: PLC0415  kopf and kubernetes take a second that other commands need not pay

    raise typer.Exit(main(settings))


def describe() -> str:
    """One paragraph for each setting."""
    paragraphs = []
    for name, field in Settings.model_fields.items():
        default = "from the host" if field.default_factory else repr(field.default)
        paragraphs.append(f"{PREFIX}{name.upper()} (default {default})\n    {field.description}")
    return "\n".join(paragraphs)
