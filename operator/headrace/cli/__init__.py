"""`headrace`: the command line. Each command is imported when it is called, so that help is quick."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

# name: (module, attribute, one line for the list)
COMMANDS = {
    "operator": ("operator", "operator", "Run the operator (what runs in the cluster)."),
    "explain": ("explain", "explain", "Say why a service has as many replicas as it has."),
    "doctor": ("doctor", "doctor", "Find what would stop an InferenceService here, and the mend."),
    "plan": ("plan", "plan", "Show what an InferenceService would create, before it is applied."),
    "simulate": ("simulate", "app", "Run a fleet in simulation, or check the simulator against measurements."),
    "crd": ("crd", "app", "Update or verify the generated CRD and API reference."),
    "version": ("version", "version", "Print versions."),
}


class LazyGroup(TyperGroup):
    """Commands by name, imported on first use."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        """The order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  click's signature
        """The command itself."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, help_line = COMMANDS[cmd_name]
        target = getattr(import_module(f"headrace.cli.{module}"), attribute)
        if isinstance(target, typer.Typer):
            command = get_command(target)
        else:
            app = typer.Typer(add_completion=False)
            app.command(cmd_name)(target)
            command = get_command(app)
        command.name = cmd_name
        command.short_help = help_line
        return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback(epilog="Example: headrace doctor && headrace explain chat --namespace default")
def root() -> None:
    """Keep LLM engines fed: the objectives held at the fewest GPU-hours, every decision explained."""


def main() -> None:
    """Entry point."""
    app()
