"""The site's first answer in a run: it is ready, and its cohort in numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from fedloupe.messages import HelloReply
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort, problems
from fedloupe_client.ingest import load_store


def hello(header: dict[str, Any], home: Path, study: Study, cohort: Cohort, digest: str) -> HelloReply:
    """How many patients of each split, who was left out and why, and which features they have.

    Args:
        header: of the answer.
        home: of the site.
        study: as approved.
        cohort: the site's patients.
        digest: keyed, of the cohort.
    """
    store = load_store(home)
    drawn = [model for case, model in store.drawn.items() if case in cohort.cases]
    codes = [record.code for record in store.records if record.code]
    codes += problems(home, study).values()
    return HelloReply(
        **header,
        train=len(cohort.rows("train")),
        tune=len(cohort.rows("tune")),
        test=len(cohort.rows("test")),
        positives=int(cohort.labels.sum()),
        excluded=dict(sorted(Counter(codes).items())),
        features=cohort.names,
        groups=cohort.columns,
        drawn=len(drawn),
        drawn_by=drawn[0] if drawn else None,
        data_digest=digest,
    )
