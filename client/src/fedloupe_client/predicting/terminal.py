"""A prediction in a few lines."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from fedloupe.terminal import console
from fedloupe_client.predicting.result import Result
from fedloupe_client.predicting.single import percent


def say_prediction(result: Result, page: Path) -> None:
    """Headline, why or how sure, and the page's path; no local name."""
    colour = "yellow" if result.verdict == "outside" else "bold"
    console.print(Text.assemble(f"{result.case}  ", (result.headline, colour)), highlight=False)
    if result.verdict == "outside":
        for reason in result.range.reasons:
            console.print(f"  {reason}", highlight=False, markup=False)
    else:
        held = " or ".join(result.allowed) or "neither outcome"
        console.print(
            f"  probability {percent(result.probability)}, threshold {percent(result.threshold)}; "
            f"set at {result.coverage:.0%} coverage: {held}; "
            f"{result.responded} of {len(result.neighbours)} nearest had the event",
            highlight=False,
            markup=False,
        )
    if (use := {"train": "trained", "tune": "tuned"}.get(result.used_for)) is not None:
        console.print(f"  this patient {use} the model: the numbers flatter it", highlight=False)
    console.print(f"  {page} (stays here). {result.notice}", style="dim", highlight=False, markup=False)
