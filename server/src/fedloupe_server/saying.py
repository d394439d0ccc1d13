"""What a command says of a finished run: its results, its pack, and what the pack lacks.

say_outcome(outcome, as_json)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedloupe.terminal import console, say_json

if TYPE_CHECKING:
    from fedloupe_server.pack import Pack
    from fedloupe_server.simulation.local import Outcome


def say_outcome(outcome: Outcome, as_json: bool) -> None:
    """One line a site, and where the pack lies; or both as one JSON document."""
    from fedloupe_server.evidence.summary import summary_json
    from fedloupe_server.simulation.showing import result_table

    if as_json:
        say_json({**summary_json(outcome.results), **_places(outcome.pack)})
        return
    console.print(result_table(outcome.results))
    say_pack(outcome.pack, as_json)


def say_pack(pack: Pack, as_json: bool) -> None:
    """Where the report and the pack lie, and what could not be written, with what to do."""
    if as_json:
        say_json(_places(pack))
        return
    for name, said in (("report", pack.page), ("pack", pack.folder), *(("note", note) for note in pack.notes)):
        console.print(f"{name:7} {said}", highlight=False, soft_wrap=True)


def _places(pack: Pack) -> dict[str, object]:
    return {"report": str(pack.page), "pack": str(pack.folder), "notes": list(pack.notes)}
