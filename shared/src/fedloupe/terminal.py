"""How both commands speak: errors with code, place and remedy on stderr, exit code 1; JSON where a script asks for it.

with speaking(json_output):
    ...                       # a FedLoupeError ends the command, in words or as JSON
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from fedloupe.errors import FedLoupeError

console = Console()
errors = Console(stderr=True)


@contextmanager
def speaking(as_json: bool = False) -> Iterator[None]:
    """Turn a user error into one clear message and exit code 1.

    Args:
        as_json: print `{"error": {...}}` on stdout instead of words on stderr.
    """
    try:
        yield
    except FedLoupeError as error:
        if as_json:
            content = {"code": error.code, "what": error.what, "where": error.where, "remedy": error.remedy}
            print(json.dumps({"error": content}, ensure_ascii=False))
        else:
            say_error(error)
        raise typer.Exit(1) from None


def say_error(error: FedLoupeError) -> None:
    """Code and what happened, where, and what to do next."""
    errors.print(Text.assemble((f"{error.code} ", "bold red"), error.what))
    if error.where:
        errors.print(Text.assemble(("  where   ", "dim"), error.where))
    errors.print(Text.assemble(("  do      ", "dim"), error.remedy))


def keep_to_installed() -> None:
    """Let no Python process that this one starts, `multiprocessing`'s too, import from the folder where it was typed.

    That folder may be anybody's, and who types may be root; `-P` says the same to those that we start by name.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")


def say_json(content: object) -> None:
    """One JSON document on stdout."""
    print(json.dumps(content, ensure_ascii=False, indent=1))
