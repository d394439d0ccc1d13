"""The declared rules by which a series is recognised as a sequence: `configs/series-rules.yaml`, or a site's own.

rules = load_rules(None)                      # the default; a path for a site's own file
rule = rules.rule("t2w", "MR")
judge(rule, slices, stacks)                   # Verdict(met=("echo time", ...), open=(), failed=())

Unknown keys are refused. A condition is met, failed, or open: open where the series lacks the tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedloupe.study.loading import explain, read_yaml
from fedloupe_client.ingest.dicom.headers import Slice
from fedloupe_client.ingest.dicom.stacks import Stack
from fedloupe_client.ingest.problems import RulesInvalid
from fedloupe_client.ingest.store.memory import stamp

DEFAULT = Path(__file__).with_name("series-rules.yaml")
Plane = Literal["transverse", "sagittal", "coronal"]
Take = Literal["volume", "highest_b", "adc", "pre", "peak", "late", "wash_in", "wash_out", "time_to_peak", "auc"]
DYNAMIC: tuple[Take, ...] = ("pre", "peak", "late", "wash_in", "wash_out", "time_to_peak", "auc")


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


def _ordered(bounds: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    if bounds[0] is not None and bounds[1] is not None and bounds[0] > bounds[1]:
        raise ValueError("the lower bound is above the upper one")
    return bounds


Pattern = Annotated[str, AfterValidator(_compiles)]
Range = Annotated[tuple[float | None, float | None], AfterValidator(_ordered)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Words(_Frozen):
    """Code strings of one attribute: one of `wanted`, none of `refused`."""

    wanted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    silent: tuple[str, ...] = Field(default=(), description="words that say nothing: alone they leave it open")


class Count(_Frozen):
    """How many different values a series has."""

    at_least: int = Field(default=0, ge=0)
    at_most: int | None = Field(default=None, ge=0)


class Rule(_Frozen):
    """What makes a series this sequence; or, with `of`, what to take from another rule's series."""

    also: tuple[str, ...] = Field(default=(), description="other sequence names that it serves; `*` is any text")
    modality: Literal["MR", "CT"] = "MR"
    image_type: Words = Field(default=Words(), description="Image Type (0008,0008) after its first two values")
    scanning: Words = Field(default=Words(), description="Scanning Sequence (0018,0020)")
    variant: Words = Field(default=Words(), description="Sequence Variant (0018,0021)")
    echo_time_ms: Range = (None, None)
    repetition_time_ms: Range = (None, None)
    spacing_mm: Range = Field(default=(None, None), description="between slices, by their positions")
    b_values: Count = Count()
    time_points: Count = Count()
    contrast: Literal["any", "wanted", "refused"] = Field(default="any", description="a contrast agent is named")
    plane: Plane | None = Field(default=None, description="preferred among the series that fit")
    plane_required: bool = Field(default=False, description="a series in another plane does not fit")
    description: Pattern | None = Field(
        default=None, description="Series Description: only where tags are empty or several series fit"
    )
    description_not: Pattern | None = Field(default=None, description="Series Description that never fits")
    quantity: Literal["signal", "diffusivity"] = "signal"
    take: Take = Field(default="volume", description="what the sequence is of a series with several volumes")
    of: str | None = Field(default=None, description="the rule whose series is taken from")
    instead: str | None = Field(default=None, description="a diffusion rule: the ADC of its series where none fits")


class Rules(_Frozen):
    """A whole rules file."""

    repeats: Literal["latest", "refuse"] = "latest"
    frame_of_reference: Literal["note", "refuse"] = "note"
    sequences: dict[str, Rule]

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, rule in self.sequences.items():
            for other in (rule.of, rule.instead):
                if other is not None and (other not in self.sequences or self.sequences[other].of is not None):
                    raise ValueError(f"`{name}` refers to `{other}`, which is no rule of its own")
        return self

    def rule(self, name: str, modality: str) -> Rule | None:
        """The rule of a study's sequence: of its own name, else the first that serves it."""
        own = self.sequences.get(name)
        if own is not None and own.modality == modality:
            return own
        serving = (
            r for r in self.sequences.values() if r.modality == modality and any(fnmatchcase(name, p) for p in r.also)
        )
        return next(serving, None)


def load_rules(path: Path | None) -> Rules:
    """A site's rules file, or the default rules; parsed once as long as the file does not change.

    Raises:
        StudyUnreadable: the file is absent, not permitted, or no YAML.
        RulesInvalid: naming each wrong key.
    """
    file = path or DEFAULT
    return _load(file, stamp(file))


@lru_cache(maxsize=4)
def _load(file: Path, _stamp: str) -> Rules:
    try:
        return Rules.model_validate(read_yaml(file))
    except ValidationError as error:
        raise RulesInvalid(explain(error), where=str(file), remedy="see configs/series-rules.yaml") from None


@dataclass(frozen=True)
class Verdict:
    """The conditions of a rule on one series, by name."""

    met: tuple[str, ...]
    open: tuple[str, ...]
    failed: tuple[str, ...]


def judge(rule: Rule, slices: list[Slice], stacks: tuple[Stack, ...]) -> Verdict:
    """Hold a series against a rule, description apart.

    Args:
        rule: one with conditions of its own (`of` is None).
        slices: the series' frames; what must be one for all is read from the first.
        stacks: its volumes; () where it is none, which leaves what they would tell open.
    """
    first = slices[0]
    b_values = len({s.b_value for s in slices if s.b_value is not None})
    times = len({stack.time_s for stack in stacks if stack.b_value is None})
    spacing = stacks[0].grid.spacing[2] if stacks else None
    points = _counted(rule.time_points, times if len(stacks) > 1 else 1) if stacks else None
    free = (None, None)
    checks: list[tuple[str, bool, bool | None]] = [
        ("image type", rule.image_type != Words(), _words(rule.image_type, first.image_type[2:])),
        ("scanning sequence", rule.scanning != Words(), _words(rule.scanning, first.scanning)),
        ("sequence variant", rule.variant != Words(), _words(rule.variant, first.variant)),
        ("echo time", rule.echo_time_ms != free, _within(rule.echo_time_ms, first.echo_time)),
        ("repetition time", rule.repetition_time_ms != free, _within(rule.repetition_time_ms, first.repetition_time)),
        ("slice spacing", rule.spacing_mm != free, _within(rule.spacing_mm, spacing)),
        ("b-values", rule.b_values != Count(), _counted(rule.b_values, b_values)),
        ("time points", rule.time_points != Count(), points),
        ("contrast agent", rule.contrast != "any", first.contrast == (rule.contrast == "wanted")),
        ("plane", rule.plane_required, plane(first) == rule.plane),
    ]
    return Verdict(
        met=tuple(name for name, asked, result in checks if asked and result is True),
        open=tuple(name for name, asked, result in checks if asked and result is None),
        failed=tuple(name for name, asked, result in checks if asked and result is False),
    )


def plane(slice_: Slice) -> Plane | None:
    """The plane that the slice's normal is nearest to; None between planes, or without an orientation."""
    if len(slice_.orientation) != 6:
        return None
    a, b, c, d, e, f = slice_.orientation
    named: tuple[tuple[Plane, float], ...] = (
        ("sagittal", b * f - c * e),
        ("coronal", c * d - a * f),
        ("transverse", a * e - b * d),
    )
    return next((name for name, component in named if abs(component) > 0.7), None)


def _words(rule: Words, words: tuple[str, ...]) -> bool | None:
    there = {word.strip().upper() for word in words} - {""}
    if there & set(rule.refused):
        return False
    if there & set(rule.wanted):
        return True
    if rule.wanted:
        return False if there - set(rule.silent) else None
    return True


def _within(bounds: Range, value: float | None) -> bool | None:
    if value is None:
        return None
    low, high = bounds
    return (low is None or value >= low) and (high is None or value <= high)


def _counted(rule: Count, count: int) -> bool:
    return count >= rule.at_least and (rule.at_most is None or count <= rule.at_most)
