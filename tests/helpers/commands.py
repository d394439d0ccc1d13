"""What our own command lines make of words that stand in a unit, an image or a compose file."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from fedloupe_client.cli import app as site_app
from fedloupe_server.cli import app as coordinator_app

APPS = {"fedloupe-site": site_app, "fedloupe": coordinator_app}


def parsed(words: list[str]) -> dict[str, Any]:
    """Options and arguments by name, and `command`.

    Args:
        words: the program, the command, and what follows.

    Raises:
        click.UsageError: no such command or option, or a value that it does not take.
    """
    group = get_command(APPS[words[0]])
    with group.make_context(words[0], list(words[1:])) as outer:
        name, command, rest = group.resolve_command(outer, [*outer._protected_args, *outer.args])
        with command.make_context(name, rest, parent=outer) as context:
            return {"command": name, **context.params}
