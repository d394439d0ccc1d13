"""The page's charts as SVG: the probability on its scale, what drove it, and the deletion curve.

Colours are the map's: orange raises the log-odds of the endpoint, blue lowers them.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from fedloupe_client.predicting.result import MapResult, PartResult, Result

KINDS = {"radiomics": "features", "clinical": "clinical", "image": "image"}
_WIDTH = 640


def probability_scale(result: Result) -> Markup:
    """The calibrated probability from 0 to 1 with the frozen threshold."""
    at, threshold = 10 + 620 * result.probability, 10 + 620 * result.threshold
    side = "end" if result.threshold > 0.8 else "start" if result.threshold < 0.2 else "middle"
    ticks = Markup("").join(
        Markup('<text x="{}" y="58" text-anchor="middle">{} %</text>').format(10 + 6.2 * share, share)
        for share in (0, 25, 50, 75, 100)
    )
    return Markup(
        '<svg class="chart scale" viewBox="-12 0 {width} 62" role="img" aria-label="{said}">'
        '<rect class="rail" x="10" y="26" width="620" height="10" rx="5"/>'
        '<rect class="fill" x="10" y="26" width="{length:.1f}" height="10" rx="5"/>'
        '<line class="mark" x1="{threshold:.1f}" x2="{threshold:.1f}" y1="18" y2="44"/>'
        '<text x="{threshold:.1f}" y="12" text-anchor="{side}">threshold {value:.0f} %</text>'
        '<circle class="dot" cx="{at:.1f}" cy="31" r="9"/>{ticks}</svg>'
    ).format(
        width=_WIDTH + 24,
        said=f"Probability {result.probability:.2f}, threshold {result.threshold:.2f}",
        length=at - 10,
        threshold=threshold,
        side=side,
        value=100 * result.threshold,
        at=at,
        ticks=ticks,
    )


def attribution_bars(parts: Sequence[PartResult]) -> Markup:
    """One bar an input that the patient has, the largest change first."""
    known = sorted((p for p in parts if p.change is not None), key=lambda part: -abs(part.change or 0.0))
    top = max((abs(part.change or 0.0) for part in known), default=0.0) or 1.0
    rows = []
    for place, part in enumerate(known):
        value = part.change or 0.0
        length, y = 190 * abs(value) / top, 6 + 22 * place
        start = 400 if value >= 0 else 400 - length
        text, anchor = (start + length + 6, "start") if value >= 0 else (start - 6, "end")
        rows.append(
            Markup(
                '<text class="label" x="0" y="{y:.1f}">{name}</text>'
                '<rect class="{kind}" x="{start:.1f}" y="{top}" width="{length:.1f}" height="14" rx="2"/>'
                '<text x="{text:.1f}" y="{y:.1f}" text-anchor="{anchor}">{value:+.2f}</text>'
            ).format(
                y=y + 11.5,
                top=y,
                name=f"{KINDS[part.kind]}: {part.name}",
                kind="raises" if value >= 0 else "lowers",
                start=start,
                length=length,
                text=text,
                anchor=anchor,
                value=value,
            )
        )
    height = 10 + 22 * len(known)
    axis = Markup('<line class="axis" x1="400" x2="400" y1="0" y2="{}"/>').format(height - 4)
    return Markup(
        '<svg class="chart bars" viewBox="0 0 {} {}" role="img" aria-label="Change of the log-odds by input">{}{}</svg>'
    ).format(_WIDTH, height, axis, Markup("").join(rows))


def deletion_curve(found: MapResult) -> Markup:
    """The logit while the crop is made blank: in the map's order, and in random order."""
    values = [*found.deletion_ordered, *found.deletion_random]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def points(curve: Sequence[float]) -> str:
        return " ".join(
            f"{50 + 340 * share:.1f},{16 + 140 * (high - value) / span:.1f}"
            for share, value in zip(found.deletion_share, curve, strict=True)
        )

    between = f"{points(found.deletion_ordered)} " + " ".join(reversed(points(found.deletion_random).split()))
    return Markup(
        '<svg class="chart curve" viewBox="0 0 420 206" role="img" aria-label="Deletion curves">'
        '<polygon class="between" points="{between}"/>'
        '<polyline class="random" points="{random}"/><polyline class="ordered" points="{ordered}"/>'
        '<line class="axis" x1="50" x2="50" y1="10" y2="162"/><line class="axis" x1="50" x2="392" y1="162" y2="162"/>'
        '<text x="44" y="20" text-anchor="end">{high:.2f}</text><text x="44" y="160" text-anchor="end">{low:.2f}</text>'
        '<text x="50" y="178" text-anchor="middle">0 %</text><text x="390" y="178" text-anchor="middle">100 %</text>'
        '<text x="220" y="178" text-anchor="middle">of the crop made blank</text>'
        '<text x="220" y="200" text-anchor="middle">vertical: model\'s log-odds</text></svg>'
    ).format(
        between=between,
        random=points(found.deletion_random),
        ordered=points(found.deletion_ordered),
        high=high,
        low=low,
    )
