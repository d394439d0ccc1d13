"""The engine's own examination on this machine: published values and golden values, in one look.

    seen = check_engine()
    seen.passed, seen.line        # True, "482 of 482 IBSI values, 1,405 of 1,405 golden values"

Golden values were written by this engine and confirmed by an independent one (docs/radiomics.md). They cover what the
phantom does not: filters, rim, differences, bins by their number.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe_client.radiomics.conformance.generated import generated_values
from fedloupe_client.radiomics.conformance.phantom import consensus, phantom_values

GOLDEN = Path(__file__).with_name("golden.csv")
RELATIVE, ABSOLUTE = 1e-6, 1e-9


class EngineDeviates(FedLoupeError):
    """The feature engine of this machine does not give the agreed numbers."""

    code = "FL-406"
    title = "feature engine does not give the agreed numbers"


@dataclass(frozen=True)
class EngineCheck:
    """What was compared, and the names of values that were missed.

    Attributes:
        published, golden: number of values compared.
        published_missed: tags of IBSI values beyond the published tolerance.
        golden_missed: names of golden values beyond a relative 1e-6.
    """

    published: int
    golden: int
    published_missed: tuple[str, ...]
    golden_missed: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no value was missed."""
        return not (self.published_missed or self.golden_missed)

    @property
    def line(self) -> str:
        """In a few words."""
        published, golden = self.published - len(self.published_missed), self.golden - len(self.golden_missed)
        return f"{published:,} of {self.published:,} IBSI values, {golden:,} of {self.golden:,} golden values"

    @property
    def problem(self) -> EngineDeviates | None:
        """What to tell where values were missed, with the first few names."""
        if self.passed:
            return None
        missed = (*self.published_missed, *self.golden_missed)
        return EngineDeviates(
            f"only {self.line} agree; missed are {', '.join(missed[:3])}{' and others' if len(missed) > 3 else ''}",
            where="feature engine",
            remedy="install the versions in constraints.txt, delete the compiled files in the package's `__pycache__` "
            "folders, and check again; do not use features of this machine until it passes",
        )


def check_engine() -> EngineCheck:
    """Compute both cases and compare. A value that is missing where another is expected counts as missed."""
    published, found = consensus(), phantom_values()
    golden, values = golden_values(), generated_values()
    return EngineCheck(
        published=len(published),
        golden=len(golden),
        published_missed=tuple(tag for tag, item in published.items() if not item.allows(found.get(tag, float("nan")))),
        golden_missed=tuple(
            name for name, value in golden.items() if not _close(values.get(name, float("nan")), value)
        ),
    )


def golden_values() -> dict[str, float]:
    """The golden vector: name to value."""
    with GOLDEN.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader((line for line in lines if not line.startswith("#")), delimiter=";")
        return {name: float(value) for name, value in rows}


def _close(value: float, golden: float) -> bool:
    return abs(value - golden) <= RELATIVE * abs(golden) + ABSOLUTE


def write_golden() -> None:
    """Write the golden vector anew; only after a change of the engine that is meant, and confirmed independently."""
    lines = [f"{name};{value:.12g}\n" for name, value in generated_values().items()]
    head = (
        "# Golden vector of the case in generated.py, see check.write_golden; docs/radiomics.md says who confirmed it\n"
    )
    GOLDEN.write_text(head + "".join(lines), encoding="utf-8")
