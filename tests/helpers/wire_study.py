"""A study for tests of the wire alone: its sites answer by themselves."""

from __future__ import annotations

import json
from pathlib import Path


def write_wire_study(path: Path, *sites: str) -> Path:
    """Write a study of these training sites, in which sums are plain; its path."""
    content = {
        "study": "wire",
        "title": "wire test",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "y", "positive": ["1"], "negative": ["0"]},
        "aggregation": "plain",
        "sites": [{"name": name, "role": "train"} for name in sites],
        "radiomics": {"source": "table"},
        "quorum": {"minimum": 1},
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
