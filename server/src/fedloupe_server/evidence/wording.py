"""The report's sentences: what the numbers say, and what they do not, in plain words.

found(results), certainty(results), benefit(results), privacy(results), limits(results)   # lists of sentences
"""

from __future__ import annotations

from statistics import median

from fedloupe_server.evidence import baselines, formats, noise, paired, personal, private
from fedloupe_server.evidence.intervals import local_name
from fedloupe_server.evidence.results import Results, SiteResult
from fedloupe_server.statistics.quality import QualitySummary

NO_GUARANTEE = "No formal privacy guarantee."
RESEARCH_ONLY = "Research use only, not a medical device"


def is_private(results: Results) -> bool:
    """Whether training was differentially private, at either level."""
    return results.privacy != "none"


def training(results: Results) -> list[SiteResult]:
    """The sites that trained."""
    return [s for s in results.sites if s.role == "train"]


def validating(results: Results) -> list[SiteResult]:
    """The sites that never trained."""
    return [s for s in results.sites if s.role == "validate"]


def asked(results: Results) -> list[str]:
    """The question, and who was asked."""
    apart, trained = validating(results), len(training(results))
    if not trained:  # a run that was only sealed before it was validated
        trained = len({site for record in results.rounds for site in record.participants})
    patients = sum(s.train + s.tune + s.test for s in results.sites)
    sites = f"{formats.count(trained, 'site')} trained" + (
        f", {formats.count(len(apart), 'site')} only validated" if apart else ""
    )
    return [
        f"Can the endpoint “{results.endpoint}” be predicted?",
        f"{sites}; {formats.count(patients, 'patient')} in all, {sum(s.positives for s in results.sites):,} of them "
        "with the event.",
    ]


def found(results: Results) -> list[str]:
    """Discrimination on patients that the model never trained on; validate-only sites apart."""
    said = []
    if pooled := results.pooled:
        said.append(
            f"On test patients of the training sites the federated model's pooled AUC is "
            f"{formats.auc(pooled.auc)} (95 % interval {formats.interval(pooled.low, pooled.high)}; "
            f"{formats.count(pooled.sites, 'site')}, {formats.count(pooled.patients, 'patient')})."
        )
    said += _outside(validating(results))
    if not validating(results):
        said.append(
            "No external site took part: nothing here shows how the model does at a hospital that never trained."
        )
    said += noise.destroyed(results)
    said += baselines.without_a_site(results)
    best = [s.federated.reference_auc for s in results.sites if s.federated.reference_auc is not None]
    if best:
        low, high = min(best), max(best)
        said.append(
            f"The patients are synthetic, so the best possible AUC is known: "
            f"{formats.auc(low) if formats.gain(high, low) == 0 else formats.interval(low, high) + ' by site'}."
        )
    return said


def _outside(apart: list[SiteResult]) -> list[str]:
    """The frozen model at validate-only sites."""
    every = [(s.site, s.federated) for s in apart]
    told = {
        name: f"({formats.interval(s.auc_low, s.auc_high)}; {formats.count(s.positives, 'event')} in {s.patients})"
        for name, s in every
    }
    chance = [name for name, s in every if s.auc_low <= 0.5]
    if len(every) > 1:
        each = [f"{formats.auc(s.auc)} at {name} {told[name]}" for name, s in every]
        where = f"At the {len(every)} external sites, which never trained, the frozen model's AUC is"
        said = [f"{where} {formats.listed(each)}."]
        return [*said, f"The interval includes chance at {formats.listed(chance)}."] if chance else said
    return [
        f"At {name}, which never trained, the frozen model's AUC is {formats.auc(s.auc)} {told[name]}."
        + (" This interval includes chance." if chance else "")
        for name, s in every
    ]


def certainty(results: Results) -> list[str]:
    """How far the numbers carry."""
    pooled = results.pooled
    if pooled is None:
        return ["The sites' results were not pooled: read each site's interval on its own."]
    said = []
    if pooled.prediction_low is None or pooled.prediction_high is None:
        said.append(
            f"With {formats.count(pooled.sites, 'site')} nothing can be predicted for a new hospital; three are needed."
        )
    else:
        said.append(
            f"A new hospital like these should expect an AUC between {formats.auc(pooled.prediction_low)} and "
            f"{formats.auc(pooled.prediction_high)} (95 % prediction interval). It rests on hospitals that "
            "trained; one that did not may do worse."
        )
        if pooled.prediction_low <= 0.5:
            said.append("That range includes 0.5: at a new hospital the model may do no better than chance.")
    if pooled.sites < 2:
        return said
    smallest = min(results.sites, key=lambda s: s.federated.auc_low - s.federated.auc_high)
    half = (smallest.federated.auc_high - smallest.federated.auc_low) / 2
    said.append(
        f"The widest interval of a single site, at {smallest.site}, is ±{half:.2f}. By estimate differences between "
        f"sites account for {formats.percent(pooled.i2)} of the variation (I²); so few sites cannot rule out more."
    )
    if alone := [s.site for s in training(results) if not s.federated.poolable]:
        said.append(f"With a single patient of one outcome to test on, {formats.listed(alone)} could not be pooled.")
    return said


def benefit(results: Results) -> list[str]:
    """Did the federation beat each site's own model? Where it did not, say so by name."""
    pairs = [(s.site, s.federated, s.local) for s in training(results) if s.local]
    apart = [s for s in validating(results) if s.local_elsewhere]
    if not pairs and not apart:
        return [
            "Not shown. The sites' own models were not trained"
            + _without_own(results)
            + ", so this run cannot say whether the federation beats them.",
            *personal.against(results),
        ]
    said = []
    if pairs:
        better = [n for n, fed, own in pairs if formats.gain(fed.auc, own.auc) > 0]
        same = [n for n, fed, own in pairs if formats.gain(fed.auc, own.auc) == 0]
        worse = [(n, fed, own) for n, fed, own in pairs if formats.gain(fed.auc, own.auc) < 0]
        gain = formats.difference(median(formats.gain(fed.auc, own.auc) for _, fed, own in pairs))
        said.append(
            f"At {len(better)} of {formats.count(len(pairs), 'training site')} the federated model has a higher AUC "
            f"than the site's own model on the same test patients (median difference {gain})."
        )
        if worse:
            names = [f"{n} ({formats.auc(fed.auc)} against {formats.auc(own.auc)})" for n, fed, own in worse]
            said.append(f"The federation did not beat the own model of {formats.listed(names)}.")
        if same:
            said.append(f"At {formats.listed(same)} the two are equal to two decimals.")
        inside = [n for n, fed, own in pairs if own.auc_low <= fed.auc <= own.auc_high]
        if inside and not paired.words(results):
            said.append(
                f"At {len(inside)} of {len(pairs)} the federated AUC lies within the own model's 95 % interval: "
                "there, so few patients cannot tell the two apart."
            )
        said += paired.words(results)
    behind = [s for s in apart if any(formats.gain(s.federated.auc, o.auc) <= 0 for o in s.local_elsewhere)]
    if len(apart) > 1 and not behind:
        aucs = [o.auc for site in apart for o in site.local_elsewhere]
        said.append(
            f"At all {len(apart)} external sites it is above every own model brought there "
            f"(their AUCs: {formats.interval(min(aucs), max(aucs))})."
        )
    for site in apart if len(apart) == 1 or behind else []:
        others = site.local_elsewhere
        beaten = [o for o in others if formats.gain(site.federated.auc, o.auc) > 0]
        low, high = min(o.auc for o in others), max(o.auc for o in others)
        said.append(
            f"At {site.site} it is above {len(beaten)} of the {formats.count(len(others), 'own model')} "
            f"brought there (their AUCs: {formats.interval(low, high)})."
        )
        if unbeaten := [local_name(o) for o in others if formats.gain(site.federated.auc, o.auc) <= 0]:
            said.append(f"There it did not beat the own model of {formats.listed(unbeaten)}.")
    return said + baselines.against(results) + personal.against(results)


def privacy(results: Results) -> list[str]:
    """What protects patients or hospitals, and what does not."""
    if is_private(results):
        return [*private.told(results), *noise.cost(results)]
    return [
        f"{NO_GUARANTEE} {private.stays(results)} Nothing here bounds what those could tell about a patient.",
    ]


def _without_own(results: Results) -> str:
    """Why a private run trains no model of a site's own."""
    if not is_private(results):
        return ""
    if results.client_level is not None:
        return " (they would have left without noise)"
    return " (that would have cost privacy budget)"


def quality(found: QualitySummary) -> list[str]:
    """How features were judged, and how many were dropped for which reason."""
    offered, kept = (sum(getattr(row, name) for row in found.by_family) for name in ("offered", "kept"))
    rules = []
    if any(row.kinds for row in found.by_family):
        patients = formats.count(found.perturbed, "patient")
        rules.append(f"an intraclass correlation of at least {found.minimum_icc:g} when {patients} are perturbed")
    if found.redundancy is not None:
        rules.append(f"an absolute correlation below {found.redundancy:g} with every feature kept before it")
    sentences = [
        f"Of {formats.count(offered, 'feature')}, {kept:,} entered the models.",
        f"The study asked for {formats.listed(rules)}, on {formats.count(found.patients, 'training patient')} of all "
        "sites together; the endpoint played no part.",
    ]
    if found.reasons:
        dropped = formats.listed([f"{count:,} {why}" for why, count in found.reasons.items()])
        sentences.append(f"Dropped: {dropped}.")
    if any(row.kinds for row in found.by_family):
        sentences.append("Perturbing images is a stand-in for scanning twice: it shows what cannot repeat.")
    return [*sentences, f"The list was frozen with the models (digest {formats.short(found.digest)})."]


def threshold_origin(results: Results) -> str:
    """Where the decision threshold comes from, and which training sites had no say in it."""
    silent = [s.site for s in training(results) if s.site not in results.threshold_sites]
    partly = bool(results.threshold_sites and silent)
    return (
        f"A patient is called positive when the predicted probability reaches {results.threshold:.2f}. This threshold "
        "maximises Youden's index on the training sites' tune splits, from the mean log-odds of patients with and "
        "without the event (equal-variance normal model). It was frozen together with weights and preparation "
        f"(digest {formats.short(results.frozen)})"
        + (" before any validate-only site was opened." if validating(results) else ".")
        + (f" Too few tuning patients to take part in it: {formats.listed(silent)}." if partly else "")
    )


def excluded(results: Results) -> str:
    """Patients left out, by site and error code."""
    phrases = [
        f"{s.site} {formats.listed([f'{n} × {code}' for code, n in sorted(s.excluded.items())])}"
        for s in results.sites
        if s.excluded
    ]
    return f"Cases left out, by error code: {'; '.join(phrases)}." if phrases else "No case was left out."


def limits(results: Results) -> list[str]:
    """What this report does not show."""
    said = []
    if results.synthetic:
        said.append(
            "The patients are synthetic. Nothing here is evidence about real tumours, real hospitals or real images."
        )
    few = [
        s.site for s in results.sites if min(s.federated.positives, s.federated.patients - s.federated.positives) < 100
    ]
    if few:
        said.append(
            f"Small numbers: {len(few)} of {formats.count(len(results.sites), 'site')} "
            f"{'has' if len(few) == 1 else 'have'} fewer than 100 patients with or without the event to test on. "
            "The table of expected precision shows what that costs."
        )
    said += [
        f"Masks of {formats.count(s.drawn, 'patient')} at {s.site} were drawn by model {formats.short(s.drawn_by)}, "
        "because the site had none; features and crops of these patients rest on that drawing."
        for s in results.sites
        if s.drawn and s.drawn_by
    ]
    said.append(
        "Probabilities are as shipped: the model was not recalibrated at any site"
        + (", but to show what that would change" if any(map(_recalibrated, results.sites)) else "")
        + ". Read a predicted 30 % with the calibration figure beside it."
    )
    if paired.differences(results):
        if silent := [s.site for s in paired.untested(results)]:
            said.append(f"No paired test was made at {formats.listed(silent)}: compare there by AUCs alone.")
    elif any(s.local or s.local_elsewhere for s in results.sites):
        said.append("Own and federated models are compared by their AUCs; no paired significance test was made.")
    elif baselines.labels(results):
        said.append("Baselines and federated model are compared by their AUCs; no paired significance test was made.")
    if len(training(results)) < 5:
        said.append("With fewer than five training sites the variation between hospitals is itself poorly known.")
    if not validating(results):
        said.append("Every site trained, so all results are internal.")
    if is_private(results):
        said += private.limit(results)
    else:
        said.append(f"{NO_GUARANTEE} Weights can carry traces of training patients.")
    return said


def _recalibrated(site: SiteResult) -> bool:
    return bool(site.assessed and site.assessed.recalibration)
