"""The outcome of a study, and how the values in a hospital's table map to it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fedloupe.study.outcomes import SCALES, ScaleName


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Grades(_Frozen):
    """Grades of one scale that count as 1 and as 0; a grade in neither list is an error at the site.

    Best grades are the positive ones: a mapping that turns a scale round is refused.
    """

    positive: tuple[str, ...] = Field(
        min_length=1, description="grades counted as 1, as the scale or a report writes it"
    )
    negative: tuple[str, ...] = Field(min_length=1, description="grades counted as 0")


class Endpoint(_Frozen):
    """The outcome and how a site's label values map to it.

    A site whose column holds the study's own values uses `positive` and `negative`; one that declares a scale
    (`clinical.scale` in site.yaml) uses `scales`. A value that neither knows is an error at the site, never a guess.
    """

    name: str
    column: str = Field(description="column of the site's clinical table")
    positive: tuple[str, ...] = Field(default=(), description="values counted as 1 (the event: response, mutation)")
    negative: tuple[str, ...] = Field(default=(), description="values counted as 0")
    scales: dict[ScaleName, Grades] = Field(
        default={}, description="scales of `fedloupe.study.outcomes` that a site's column may be in"
    )

    @model_validator(mode="after")
    def _stated(self) -> Self:
        if not self.scales or self.positive or self.negative:
            for key in ("positive", "negative"):
                if not getattr(self, key):
                    raise ValueError(f"`{key}` names no value: at least one is needed")
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if both := set(self.positive) & set(self.negative):
            raise ValueError(f"values {sorted(both)} stand in both `positive` and `negative`")
        return self

    @model_validator(mode="after")
    def _grades_known_and_turned_right(self) -> Self:
        for name, mapping in self.scales.items():
            scale = SCALES[name]
            if unknown := [v for v in (*mapping.positive, *mapping.negative) if scale.grade(v) is None]:
                raise ValueError(f"`scales.{name}` names {unknown}, not among its grades {list(scale.grades)}")
            labels = self.graded(name)
            if both := {scale.grade(v) for v in mapping.positive} & {scale.grade(v) for v in mapping.negative}:
                raise ValueError(f"`scales.{name}`: grades {sorted(map(str, both))} are both positive and negative")
            order = [labels[grade] for grade in scale.grades if grade in labels]
            if labels.get(scale.grades[0]) != 1 or order != sorted(order, reverse=True):
                raise ValueError(
                    f"`scales.{name}` is turned round: {scale.grades[0]} is its best grade and must be positive, "
                    f"and no grade may be positive where a better one is not; best first: {list(scale.grades)}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_absent_scales(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A study without scales keeps the canonical form, and so the fingerprint, that hospitals approved."""
        content: dict[str, Any] = handler(self)
        if not self.scales:
            content.pop("scales", None)
        return content

    def graded(self, scale: ScaleName) -> dict[str, int]:
        """1 or 0 by canonical grade of a scale that the study accepts; empty where it does not."""
        mapping = self.scales.get(scale)
        if mapping is None:
            return {}
        read = SCALES[scale].grade
        labels = {read(value): 1 for value in mapping.positive} | {read(value): 0 for value in mapping.negative}
        return {grade: label for grade, label in labels.items() if grade is not None}

    def label(self, value: str, scale: ScaleName | None = None) -> int | None:
        """1, 0, or None where the mapping does not know the value.

        Args:
            value: the cell's text.
            scale: the scale that the site declares; None: the study's own values.
        """
        if scale is not None:
            grade = SCALES[scale].grade(value)
            return None if grade is None else self.graded(scale).get(grade)
        text = value.strip()
        return 1 if text in self.positive else 0 if text in self.negative else None
