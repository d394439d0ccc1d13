"""Federated gradient-boosted trees: rounds in which every site grows a tree and the coordinator takes their mean.

Flower's bagging for XGBoost (`FedXgbBagging`) as typed messages; a tree's weight is its site's share of the patients.
A round is on disk before the next is asked: run/trees/0001.safetensors holds the trees up to it and who took part.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from fedloupe.messages import GrowReply, GrowRequest
from fedloupe.models import Limits, Trees, TreesInvalid, check_trees, digest, join, no_trees
from fedloupe.study import Study, TreePlan
from fedloupe_server.federation.conversation import Conversation, WrongAnswer
from fedloupe_server.federation.events import Event, Observer
from fedloupe_server.federation.journal import Journal, JournalDamaged, read_tensors, write_tensors
from fedloupe_server.federation.waiting import a_round


def grow_trees(
    study: Study,
    plan: TreePlan,
    talk: Conversation,
    sites: tuple[str, ...],
    features: int,
    journal: Journal,
    observer: Observer,
    stage: str,
) -> Trees:
    """The trees after the plan's rounds, going on after the last round in the journal.

    F' = F + sum_k (n_k / n) eta f_k, with f_k the tree that site k fits to its own patients' gradients at F (Friedman
    2001; Chen & Guestrin 2016), and equal shares where the study weights sites equally.

    Args:
        study: its quorum and weighting.
        plan: its section `evaluation.trees`.
        talk: with these sites.
        sites: that grow.
        features: columns that a tree may ask, clinical ones last.
        journal: of the run or fold.
        observer: told of every round.
        stage: of the fit that this belongs to.

    Raises:
        QuorumNotMet, SiteRefused: of a round; the earlier ones are kept.
        WrongAnswer: a reply that is not one tree within the study's limits.
        JournalDamaged: a round's file is not what was written.
    """
    trees, done = kept_trees(journal)
    limits = Limits(features=features, depth=plan.depth, grid=plan.grid, trees=1)
    for number in range(done + 1, plan.rounds + 1):
        there = talk.there(sites)
        requests = {site: GrowRequest(**talk.header(site), round=number, trees=trees) for site in there}
        replies = talk.ask(requests, GrowReply, replace(a_round(study, there, ()), welcomes=False))
        talk.require_quorum(replies, there)
        for site, reply in replies.items():
            try:
                check_trees(reply.trees, limits)
            except TreesInvalid as error:
                raise WrongAnswer(f"{site}: {error.what}", where=site, remedy=error.remedy) from None
        weights = {s: float(r.patients) if study.training.weighting == "patients" else 1.0 for s, r in replies.items()}
        total = sum(weights.values())
        trees = join(trees, [(reply.trees, weights[site] / total) for site, reply in replies.items()])
        # One word: safetensors writes several in no fixed order, and equal runs give equal bytes.
        record = json.dumps({"trees": digest(trees), "participants": list(replies)})
        write_tensors(_path(journal, number), {"trees": trees}, record=record)
        observer(Event("trees" if stage == "rounds" else f"{stage}, trees", number, plan.rounds, ", ".join(replies)))
    return trees


def kept_trees(journal: Journal) -> tuple[Trees, int]:
    """The trees of the last complete round on disk, and its number."""
    done = 0
    while _path(journal, done + 1).exists():
        done += 1
    if not done:
        return no_trees(), 0
    tensors, words = read_tensors(_path(journal, done)) or ({}, {})
    try:
        expected = json.loads(words["record"])["trees"]
    except (KeyError, TypeError, ValueError):
        expected = None
    if "trees" not in tensors or digest(tensors["trees"]) != expected:
        raise JournalDamaged(
            "a round of trees is altered",
            where=str(_path(journal, done)),
            remedy="delete it: the round is repeated",
        )
    return tensors["trees"], done


def _path(journal: Journal, number: int) -> Path:
    return journal.folder / "trees" / f"{number:04d}.safetensors"
