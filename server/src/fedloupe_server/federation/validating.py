"""A sealed run is validated later by hospitals that were not in its study: nothing is fitted, nothing is sent but it.

    results = validate_run(Path("runs/demo"), study, exchange, Path("runs/demo-validated"))

The study is the sealed one but for its title and further sites that only validate; they approve it under its own
fingerprint, and the seal leads them to the run and study that were sealed, by which each looks up its own memory.
"""

from __future__ import annotations

import os
from pathlib import Path

from fedloupe.signing import Signer
from fedloupe.study import Study
from fedloupe_server.evidence.loading import load_results
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation.cohorts import cohort_tables
from fedloupe_server.federation.columns import FeaturesDiffer
from fedloupe_server.federation.evaluating import evaluate_sites
from fedloupe_server.federation.events import Event, Observer, silent
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.federation.freezing import keep_seal, open_sites, read_seal, signer_beside
from fedloupe_server.federation.frozen import NotSealable, read_frozen
from fedloupe_server.federation.journal import SEALED_RUN, write_atomic
from fedloupe_server.federation.opening import opened, run_name
from fedloupe_server.federation.predicting import release
from fedloupe_server.federation.run import Locked, results_of, send_frozen
from fedloupe_server.federation.waiting import CLOCK


def to_validate(run_dir: Path, study: Study) -> tuple[str, ...]:
    """The sites of the study that only validate and have not validated the sealed run yet.

    Raises:
        NotSealable: the run has no seal, the study differs from the sealed one in more than title and such sites, or
            there is no such site.
        SealBroken: see there.
    """
    seal = read_seal(run_dir)
    if seal is None:
        raise NotSealable("it has no seal", where=str(run_dir), remedy=f"seal it first: `fedloupe freeze {run_dir}`")
    if not seal.is_of(study):
        raise NotSealable(
            "the study differs from the sealed one in more than its title and further sites that only validate",
            where=study.study,
            remedy="copy the sealed run's study, and add the hospitals with `role: validate`",
        )
    done = {site.site for site in before.sites} if (before := _results(run_dir)) else set()
    sites = tuple(site for site in study.validate_sites if site not in done)
    if not sites:
        raise NotSealable("no site is left that could validate it", where=study.study, remedy="add one to the study")
    return sites


def validate_run(
    run_dir: Path,
    study: Study,
    exchange: Exchange,
    out: Path,
    *,
    observer: Observer = silent,
    patient: bool = False,
    key: Signer | None = None,
) -> Results:
    """Open the sites that have not validated a sealed run yet, and score what was sealed there.

    Args:
        run_dir: of the sealed run.
        study: the sealed one and further sites that only validate.
        exchange: how to reach these.
        out: the new run's folder; its name is the new run's name.
        observer: told of every step.
        patient: as in `run_study`.
        key: who signed the seal; where None the one beside the sealed run's folder.

    Returns:
        Results of these sites, beside those of the sealed run if it has any; also in `results.json`.

    Raises:
        NotSealable, SealBroken, NotExternal, SiteRefused, FeaturesDiffer: see there.
    """
    sites, key = to_validate(run_dir, study), key or signer_beside(run_dir)
    frozen = read_frozen(run_dir)
    seal = keep_seal(run_dir, frozen.seal.signed(key))
    if run_name(out) == seal.run:
        raise NotSealable("the new run has the sealed one's name", where=str(out), remedy="choose another --out")
    with opened(study, exchange, out, observer, CLOCK, patient=patient) as (_, talk):
        talk.leave_out([site.name for site in study.sites if site.name not in sites])
        talk.watch.observe(Event("validation", 0, len(sites), "opening sites that never trained"))
        open_sites(talk, sites, seal)
        for site, hello in talk.hellos.items():
            if (hello.features, hello.groups) != (frozen.features, frozen.columns):
                raise FeaturesDiffer(
                    f"{site} has other columns than the sealed run",
                    where=site,
                    remedy="bring the same columns; `exclude` in site.yaml drops those that are not features",
                )
        send_frozen(talk, sites, frozen.fitted)
        start = initial_weights(study, frozen.columns)
        cohorts = cohort_tables(study, talk, sites)
        scored = evaluate_sites(study, talk, frozen.fitted, start, frozen.own, talk.watch.observe).sites
        found = tuple(s.model_copy(update={"cohort": cohorts.get(s.site)}) for s in scored)
        if frozen.fitted.prediction:
            release(talk, sites, frozen.fitted.prediction, frozen.fitted.weights, frozen.fitted.threshold)
        locked = Locked(seal, frozen.features, frozen.columns, start, frozen.fitted, frozen.own)
        results = results_of(study, talk.run, locked, found, (), None)
        if before := _results(run_dir):
            kept = {"run", "title", "fingerprint", "sites"}
            rest = {name: getattr(before, name) for name in Results.model_fields if name not in kept}
            results = results.model_copy(update={**rest, "sites": (*before.sites, *found)})
        write_atomic(out / SEALED_RUN, (os.path.relpath(run_dir, out) + "\n").encode())
        write_atomic(out / "results.json", (results.model_dump_json(indent=1) + "\n").encode())
    return results


def _results(run_dir: Path) -> Results | None:
    return load_results(run_dir) if (run_dir / "results.json").exists() else None
