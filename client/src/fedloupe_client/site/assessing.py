"""The site's answers about scores that it kept of an evaluation.

answer(header, request, study, cohort, scored)      # an AssessReply or ScoresReply, before the gate looks at it
"""

from __future__ import annotations

from typing import Any

from fedloupe.messages import AssessReply, AssessRequest, ScoresReply, ScoresRequest
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.site.scored import Scored
from fedloupe_client.training.assessing import assess, histograms


def answer(
    header: dict[str, Any], request: AssessRequest | ScoresRequest, study: Study, cohort: Cohort, scored: Scored
) -> AssessReply | ScoresReply:
    """The answer to one request.

    Args:
        header: of the answer.
        request: as admitted.
        study: as approved.
        cohort: the site's patients.
        scored: what the site kept.

    Raises:
        NotScored, RunFileUnreadable: see there.
    """
    split = request.split if isinstance(request, AssessRequest) else "test"
    patients = len(cohort.rows(split))
    scores = scored.of(request.run, request.label, split, patients=patients, rests_on=request.scored)
    if isinstance(request, ScoresRequest):
        return histograms(header, request, cohort, scores)
    others = {name: scored.of(request.run, name, split, patients=patients) for name in request.against}
    return assess(header, request, study, cohort, scores, others)
