"""Who each site's patients are; one exchange, for a study with `evidence`.

tables = cohort_tables(study, talk, sites)      # by site; one that has too few patients to say is not there
"""

from __future__ import annotations

from collections.abc import Sequence

from fedloupe.messages import TOO_FEW, CohortReply, CohortRequest
from fedloupe.study import Study
from fedloupe_server.evidence.assessed import CohortTable
from fedloupe_server.federation.conversation import Conversation


def cohort_tables(study: Study, talk: Conversation, sites: Sequence[str]) -> dict[str, CohortTable]:
    """The patients of these sites in numbers; none in a study without `evidence`.

    Args:
        study: the protocol.
        talk: to the sites.
        sites: that were opened.

    Raises:
        SiteRefused: a site that the study waits for was silent, or refused for another reason than small numbers.
        WrongAnswer: see there.
    """
    if study.evidence is None or study.private:
        return {}
    asked = {site: CohortRequest(**talk.header(site)) for site in talk.there(sites)}
    replies = talk.ask(asked, CohortReply)
    few = {site for site in asked if site not in replies and talk.refusals.get(site, "").startswith(TOO_FEW)}
    talk.require_all({**replies, **dict.fromkeys(few)}, tuple(asked))
    return {site: CohortTable.of(reply) for site, reply in replies.items()}
