"""Writes docs/errors.md from the error classes, and the table of what can leave in docs/security.md.

python docs/generate_errors.py          # or `make docs`; --check writes nothing
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from fedloupe.errors import FedLoupeError, catalogue

PACKAGES = ("fedloupe", "fedloupe_client", "fedloupe_server")
PAGE = Path(__file__).with_name("errors.md")
ROOMS = {
    "1": "Study",
    "2": "Ingest and site configuration",
    "3": "Imaging",
    "4": "Radiomics",
    "5": "Gate and privacy",
    "6": "Messages, site process and courier",
    "7": "Federation, deployment and simulation",
    "8": "Metrics and evidence",
}
HEAD = """# Errors

Every error that a user can cause has a code. On your screen it reads `[code] what happened (where). What to do next.`
Only the code and the title below can leave a hospital; files, values and cases stay there.
A finding about a site's data also has a kind: `permission` and `configuration` (the data may be fine: never delete or
replace them), `corruption`, `mislabelled`, `degenerate` (readable, but nothing to work with) or `absence`.

This page is written by `make docs` from the source. Do not edit it.
"""


def import_all() -> None:
    """Import every module of the three packages, so that the catalogue knows every error."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)


def page(errors: dict[str, type[FedLoupeError]]) -> str:
    """The whole page, errors sorted by code."""
    return HEAD + "".join(_sections(errors))


def _sections(errors: dict[str, type[FedLoupeError]]) -> Iterator[str]:
    for digit, codes in groupby(sorted(errors), key=lambda code: code[3]):
        room = list(codes)
        kinds = {code: getattr(errors[code], "kind", "") for code in room}
        with_kind = any(kinds.values())
        yield f"\n## {ROOMS[digit]}\n\n"
        yield (
            "| code | title | kind | meaning |\n|---|---|---|---|\n"
            if with_kind
            else ("| code | title | meaning |\n|---|---|---|\n")
        )
        for code in room:
            meaning = " ".join((inspect.getdoc(errors[code]) or "").split("\n\n")[0].split())
            kind = f" {kinds[code]} |" if with_kind else ""
            yield f"| `{code}` | {errors[code].title} |{kind} {meaning} |\n"


def write_security_table() -> None:
    """Bring the table of what can leave in docs/security.md up to date with the message records."""
    from fedloupe_client.gate.disclosure import table

    path = PAGE.with_name("security.md")
    before, rest = path.read_text(encoding="utf-8").split("<!-- what-can-leave -->\n")
    after = rest.split("<!-- /what-can-leave -->")[1]
    path.write_text(f"{before}<!-- what-can-leave -->\n\n{table()}\n<!-- /what-can-leave -->{after}", encoding="utf-8")


def main() -> int:
    """Write the page; with `--check`, only say whether it is current."""
    import_all()
    text = page(catalogue())
    if sys.argv[1:] == ["--check"]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE.name} is current" if current else f"{PAGE.name} is out of date: run `make docs`")
        return 0 if current else 1
    PAGE.write_text(text, encoding="utf-8")
    write_security_table()
    print(f"{PAGE.name}: {text.count('| `FL-')} errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
