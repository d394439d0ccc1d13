"""The site's answers about scores that it kept of an evaluation.

answer(header, request, study, cohort, home)      # an AssessReply or ScoresReply, before the gate looks at it
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedloupe.messages import AssessReply, AssessRequest, ScoresReply, ScoresRequest
from fedloupe.study import Study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import Cohort
from fedloupe_client.gate import load_policy
from fedloupe_client.site.scored import Scored
from fedloupe_client.training.assessing import assess, histograms


def answer(
    header: dict[str, Any], request: AssessRequest | ScoresRequest, study: Study, cohort: Cohort, home: Path
) -> AssessReply | ScoresReply:
    """The answer to one request.

    Args:
        header: of the answer.
        request: as admitted.
        study: as approved.
        cohort: the site's patients.
        home: of the site, with what it kept of its scores.

    Raises:
        NotScored, RunFileUnreadable: see there.
    """
    split = request.split if isinstance(request, AssessRequest) else "test"
    patients, scored = len(cohort.rows(split)), Scored(home)
    scores = scored.of(request.run, request.label, split, patients=patients, rests_on=request.scored)
    if isinstance(request, ScoresRequest):
        return histograms(header, request, cohort, scores)
    scale = load_site(home).source.clinical.scale
    others = {name: scored.of(request.run, name, split, patients=patients) for name in request.against}
    return assess(header, request, study, cohort, scores, others, scale, load_policy(home).minimum_cell)
