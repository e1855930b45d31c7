"""`headrace`: the command line. Each command is imported when it is called, so that help is quick."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

# name: (module, attribute, one line for the list)
COMMANDS = {
    "operator": ("operator", "operator", "Run the operator (what runs in the cluster)."),
    "explain": ("explain", "explain", "Say why a service has as many replicas as it has."),
    "doctor": ("doctor", "doctor", "Find what would stop an InferenceService here, and the mend."),
    "plan": ("plan", "plan", "Show what an InferenceService would create, before it is applied."),
    "simulate": ("simulate", "app", "Run a fleet in simulation, or check the simulator against measurements."),
    "replay": ("replay", "command", "Decide again from the decision log or from Prometheus, with something changed."),
    "crd": ("crd", "app", "Update or verify the generated CRD and API reference."),
    "version": ("version", "version", "Print versions."),
}


# Libraries that only some commands need: the extra of the package that brings each.
EXTRAS = {"matplotlib": "simulate", "pyarrow": "simulate", "scipy": "simulate"}


class LazyGroup(TyperGroup):
    """Commands by name, imported when one is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        """The order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  click's signature
        """What the list of commands needs of a command: its name and its line."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, short_help=COMMANDS[cmd_name][2])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was called."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(str(name)), rest


def load(name: str) -> Any:
    """A command of the table. Ends with a sentence where it needs an extra that is not installed."""
    module, attribute, help_line = COMMANDS[name]
    try:
        target = getattr(import_module(f"headrace.cli.{module}"), attribute)
    except ModuleNotFoundError as missing:
        if missing.name not in EXTRAS:
            raise
        typer.echo(f"headrace {name} needs {missing.name}: pip install 'headrace[{EXTRAS[missing.name]}]'", err=True)
        raise typer.Exit(2) from None
    if isinstance(target, typer.Typer):
        command = get_command(target)
    else:
        app = typer.Typer(add_completion=False)
        app.command(name)(target)
        command = get_command(app)
    command.name = name
    command.short_help = help_line
    return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback(epilog="Example: headrace doctor && headrace explain chat --namespace default")
def root() -> None:
    """Keep LLM engines fed: the objectives held at the fewest GPU-hours, every decision explained."""


def main() -> None:
    """Entry point."""
    app()
