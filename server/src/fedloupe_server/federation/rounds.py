"""The rounds of local training and averaging: announced on disk, asked, added, kept.

    weights, records = train_rounds(study, talk, sites, weights, journal, observer, "rounds", entry)

A late answer may be carried over (`quorum.late: carry`). Let w_r be the model after round r, site k late in round r
with answer a and n patients, and P those who answer round r + 1, each with answer a_j and n_j patients. Then

    w_(r+1) = ( sum_P n_j a_j + n (w_r + a - w_(r-1)) ) / ( sum_P n_j + n ):

what k changed from where round r began counts once, as if it had changed it from where round r + 1 began. Site k is
asked for that answer in round r + 1 and for nothing else; an answer that is not there then either is not waited for
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import TrainReply, TrainRequest
from fedloupe.models import digest
from fedloupe.study import Study
from fedloupe_server.evidence.results import RoundRecord
from fedloupe_server.federation.client_level import ClientLevel
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.events import Event, Observer
from fedloupe_server.federation.joining import Entry
from fedloupe_server.federation.journal import Intent, Journal
from fedloupe_server.federation.keeping import Summed
from fedloupe_server.federation.strategies import strategy_for
from fedloupe_server.federation.summing import Carried
from fedloupe_server.federation.waiting import a_round

Vector = NDArray[np.float32]


def train_rounds(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    weights: Vector,
    journal: Journal,
    observer: Observer,
    stage: str,
    entry: Entry | None = None,
) -> tuple[Vector, tuple[RoundRecord, ...]]:
    """The study's rounds, going on after the last one in the journal.

    Args:
        study: the protocol.
        talk: with the sites.
        sites: training sites of this fit.
        weights: (m) that the first round begins with.
        journal: of the run or fold.
        observer: told of every round.
        stage: what its rounds are called.
        entry: what a training site gets that comes in the middle; None: none may.

    Raises:
        QuorumNotMet, WrongAnswer: of a round; the earlier ones are kept.
        JournalDamaged, NoiseDrawn: see there.
    """
    strategy = strategy_for(study.training)
    records = journal.rounds()
    central = ClientLevel.of(study, journal, records)
    earlier = weights  # what the round before began with
    if records:
        earlier = journal.load_round(records[-2])[0] if len(records) > 1 else weights
        weights, state = journal.load_round(records[-1])
        strategy.restore(state)
    talk.entry = entry
    for number in range(len(records) + 1, study.training.rounds + 1):
        intent, fresh = _intended(study, talk, sites, journal, records, weights)
        rule = a_round(study, intent.sites, _seconds(records), intent.carried)
        journal.intend(intent)
        took = Counter(site for record in records for site in record.participants)
        talk.watch.round(number, took, [max(seconds.values()) for seconds in _seconds(records) if seconds])
        carried = _carried(talk, intent, earlier, weights)
        summed = talk.sums.quorum(intent.sites, _asking(number, weights), TrainReply, rule, carried)
        mean = central.noised(weights, summed.reply.weights, len(summed.sites)) if central else summed.reply.weights
        earlier, weights = weights, strategy.aggregate(weights, mean)
        record = _record(sites, intent, summed, digest(weights), timed=fresh)
        record = central.entered(record) if central else record
        journal.save_round(record, weights, strategy.state())
        if central:
            central.kept(record)
        talk.sums.drop(TrainReply)
        records.append(record)
        talk.watch.kept(record.participants)
        observer(Event(stage, number, study.training.rounds, ", ".join(record.participants)))
    talk.entry = None
    talk.sums.drop(TrainReply)  # of a run that was killed after its last round was kept
    return weights, tuple(records)


def _asking(number: int, weights: Vector) -> Any:
    def ask(header: dict[str, Any]) -> TrainRequest:
        return TrainRequest(**header, round=number, scope="federated", weights=weights)

    return ask


def _intended(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    journal: Journal,
    records: Sequence[RoundRecord],
    weights: Vector,
) -> tuple[Intent, bool]:
    """What the next round will do, and whether it was not begun already: one that was asks whom it asked then."""
    number, start = len(records) + 1, digest(weights)
    if (begun := journal.intent(number, start)) is not None:
        return begun, False
    there = talk.there(sites)
    late = records[-1].late if records and study.quorum.late == "carry" else ()
    deadlines = a_round(study, there, _seconds(records)).deadlines
    carried = tuple(site for site in late if site in there)
    return Intent(round=number, sites=there, carried=carried, deadlines=dict(deadlines), weights=start), True


def _carried(talk: Conversation, intent: Intent, earlier: Vector, weights: Vector) -> Carried[TrainReply] | None:
    """The late answers to the round before, as answers to this one; see the module's text."""
    if not intent.carried:
        return None
    change = weights.astype(np.float64) - earlier
    ask = _asking(intent.round - 1, earlier)

    def moved(reply: TrainReply) -> TrainReply:
        return reply.model_copy(update={"weights": reply.weights + change})

    return Carried({site: ask(talk.header(site)) for site in intent.carried}, moved)


def _record(
    sites: tuple[str, ...], intent: Intent, summed: Summed[TrainReply], weights: str, *, timed: bool
) -> RoundRecord:
    late = tuple(site for site in summed.late if site not in intent.carried)
    there = {*summed.sites, *late}
    seconds = {site: round(s, 3) for site, s in summed.seconds.items() if site not in intent.carried}
    return RoundRecord(
        round=intent.round,
        participants=tuple(site for site in summed.sites if site not in summed.carried),
        absent=tuple(site for site in sites if site not in there),
        loss=summed.reply.loss,
        epsilon=summed.epsilon,
        weights=weights,
        late=late,
        carried=summed.carried,
        seconds=seconds if timed else {},  # of a round that was begun before, only the end was measured
    )


def _seconds(records: Sequence[RoundRecord]) -> list[dict[str, float]]:
    return [record.seconds for record in records]
