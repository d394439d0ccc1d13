"""A sealed run is validated later by hospitals that were not in its study: nothing is fitted, nothing is sent but it.

    results = validate_run(Path("runs/demo"), study, exchange, Path("runs/demo-validated"))

The study is the sealed one but for its title and further sites that only validate; they approve it under its own
fingerprint, and the seal leads them to the run and study that were sealed, by which each looks up its own memory.
What sites said in earlier validations that lie beside the new one is taken over: nobody is tested twice.
"""

from __future__ import annotations

import os
from pathlib import Path

from fedloupe.freezing import Seal
from fedloupe.signing import Signer
from fedloupe.study import Study
from fedloupe_server.evidence.loading import load_results
from fedloupe_server.evidence.results import Results, SiteResult
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


def to_validate(run_dir: Path, study: Study, out: Path) -> tuple[str, ...]:
    """The sites of the study that only validate and have not validated the sealed run yet.

    Args:
        run_dir: of the sealed run.
        study: see above.
        out: the new run's folder; earlier validations lie beside it.

    Raises:
        NotSealable: the run has no seal, the study differs from the sealed one in more than title and such sites, there
            is no such site, the study is the sealed one itself, or a drawing study.
        SealBroken, ResultsUnreadable, ResultsInvalid: see there.
    """
    if study.segmentation is not None:
        raise NotSealable(
            "a drawing study is not validated later", where=study.study, remedy="name its hospitals before it begins"
        )
    seal = read_seal(run_dir)
    if seal is None:
        raise NotSealable("it has no seal", where=str(run_dir), remedy=f"seal it first: `fedloupe freeze {run_dir}`")
    if not seal.is_of(study):
        raise NotSealable(
            "the study differs from the sealed one in more than its title and further sites that only validate",
            where=study.study,
            remedy="copy the sealed run's study, and add the hospitals with `role: validate`",
        )
    done = {site.site for found in (_results(run_dir), *_earlier(run_dir, seal, out)) if found for site in found.sites}
    sites = tuple(site for site in study.validate_sites if site not in done)
    if not sites:
        raise NotSealable("no site is left that could validate it", where=study.study, remedy="add one to the study")
    if study.fingerprint == seal.fingerprint:
        raise NotSealable(
            "it is the sealed study itself",
            where=study.study,
            remedy="let the run go on, which opens them: `fedloupe run`, or `fedloupe start --until end`",
        )
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
        out: the new run's folder; named as `run_name` has it.
        observer: told of every step.
        patient: as in `run_study`.
        key: who signed the seal; where None the one beside the sealed run's folder.

    Returns:
        Results of these sites, beside those of the sealed run and of earlier validations; also in `results.json`.

    Raises:
        NotSealable, SealBroken, NotExternal, SiteRefused, FeaturesDiffer, ResultsUnreadable, ResultsInvalid: see there.
    """
    sites, key = to_validate(run_dir, study, out), key or signer_beside(run_dir)
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
        told: dict[str, SiteResult] = {}
        before = _results(run_dir)
        for other in (before, *_earlier(run_dir, seal, out)):
            told |= {s.site: s for s in (other.sites if other else ()) if s.site not in told}
        told |= {s.site: s for s in found}
        named = [told[site] for site in (*study.train_sites, *study.validate_sites) if site in told]
        kept = {"run", "title", "fingerprint", "sites", "sealed"}
        rest = {name: getattr(before, name) for name in Results.model_fields if name not in kept} if before else {}
        results = results.model_copy(update={**rest, "sites": tuple(named)})
        write_atomic(out / SEALED_RUN, (os.path.relpath(run_dir.resolve(), out.resolve()) + "\n").encode())
        write_atomic(out / "results.json", (results.model_dump_json(indent=1) + "\n").encode())
    return results


def _earlier(run_dir: Path, seal: Seal, out: Path) -> list[Results]:
    """Of other validations of the same seal whose folders lie beside the new one, in the order of their names."""
    found = []
    for path in sorted(out.resolve().parent.glob(f"*/{SEALED_RUN}")):
        folder = path.parent.resolve()
        of = (folder / path.read_text(encoding="utf-8").strip()).resolve()
        if folder == out.resolve() or of != run_dir.resolve():
            continue
        results = _results(folder)
        if results is None or results.sealed is None or results.run == run_name(out):  # the last: a copy of this one
            continue
        if results.sealed.digest == seal.digest:
            found.append(results)
    return found


def _results(run_dir: Path) -> Results | None:
    return load_results(run_dir) if (run_dir / "results.json").exists() else None
