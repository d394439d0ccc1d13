"""A filled checklist as Markdown and JSON: the same run gives the same bytes, without dates."""

from __future__ import annotations

import json
import re

from fedloupe_server.evidence.checklists.filling import Filled, FilledItem, Status, counts, score

HEADLINE = "Pre-filled by FedLoupe: a person must check every line."
WORDS: dict[Status, str] = {
    "evidenced": "evidenced",
    "person": "a person must answer",
    "not-met": "not met",
    "not-applicable": "does not apply",
}


def summary(filled: Filled) -> str:
    """One or two sentences: how many items have each status, and METRICS' score where there are weights."""
    total = len(filled.items)
    parts = [f"{number} {WORDS[status]}" for status, number in counts(filled).items() if number]
    said = f"Of {total} items: {', '.join(parts)}."
    if filled.checklist.weighted:
        found = score(filled)
        said += (
            f" METRICS score of the pre-fill: {found.percent:.1f} % ({found.category}), {found.evidenced:.4f} of "
            f"{found.applicable:.4f} applicable weight. It is the pipeline's own, counts as “no” whatever a person "
            "must answer, and holds only once a person has confirmed it."
        )
    return said


def markdown(filled: Filled, base: str = "") -> str:
    """The checklist as one page.

    Args:
        filled: of `fill`.
        base: from the page's folder to the pack's, such as `../`; put before every location.
    """
    checklist = filled.checklist
    lines = [
        f"# {checklist.title} ({checklist.version})",
        "",
        f"**{HEADLINE}** {summary(filled)}",
        "",
        f"Source: {checklist.citation} doi:{checklist.doi}. Licence: {checklist.licence}",
        f"Compared: {checklist.checked} Use the official document for a submission.",
    ]
    for section in checklist.sections:
        lines += [
            "",
            f"## {section.title}",
            "",
            "| item | asks | status | where, and what remains |",
            "|---|---|---|---|",
        ]
        numbers = {item.item for item in section.items}
        lines += [_row(found, base) for found in filled.items if found.item.item in numbers]
    return "\n".join(lines) + "\n"


def to_json(filled: Filled) -> str:
    """The same as JSON, with `why` for every item that is evidenced."""
    checklist = filled.checklist
    content: dict[str, object] = {
        **checklist.model_dump(mode="json", include={"name", "title", "version", "citation", "doi", "licence"}),
        "status": HEADLINE,
        "counts": counts(filled),
    }
    if checklist.weighted:
        found = score(filled)
        content["score"] = {
            "percent": found.percent,
            "category": found.category,
            "evidenced": round(found.evidenced, 4),
            "applicable": round(found.applicable, 4),
        }
    content["items"] = [_record(found) for found in filled.items]
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _record(found: FilledItem) -> dict[str, object]:
    record: dict[str, object] = {
        "item": found.item.item,
        "section": found.section,
        "asks": found.item.asks,
        "status": found.status,
        "where": list(found.where),
        "note": found.note,
    }
    if found.status == "evidenced":
        record["why"] = found.item.why
    if found.item.weight is not None:
        record["weight"] = found.item.weight
    return record


def _row(found: FilledItem, base: str) -> str:
    weight = "" if found.item.weight is None else f" (weight {found.item.weight:.4f})"
    places = ", ".join(_link(place, base) for place in found.where)
    why = found.item.why if found.status == "evidenced" else None
    remains = f"Remains: {found.note}" if why and found.note else found.note
    text = " ".join(part for part in (places and f"{places}.", why, remains) if part)
    cells = (found.item.item, found.item.asks + weight, WORDS[found.status], text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _link(place: str, base: str) -> str:
    """A link, but for a pattern of several files."""
    shown = place.rstrip("#")
    return f"`{shown}`" if re.search(r"[*?\[]", shown) else f"[{shown}]({base}{shown})"
