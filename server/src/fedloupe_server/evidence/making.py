"""How the model came about, in the report's words: what it is, what was done to the images, what needs the sites again.

model(results, study), preprocessing(results, study)     # sentences
declared(study)                                          # what only people know, as the study declares it
unrepeatable(results)                                    # which numbers follow from results.json, and which do not
"""

from __future__ import annotations

from fedloupe.study import Declared, Study
from fedloupe_server.evidence import formats, private
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.tables import Table

DEEP = {
    "transformer": "a Transformer: self-attention over tokens, one a feature group, one a clinical value, and one for "
    "each place of the tumour crops",
    "cnn": "a 3-D convolutional network on the tumour crops, with radiomics and clinical values joined late",
    "gcn": "a graph convolutional network over feature groups and places of the tumour crops",
    "logistic": "logistic regression, trained in rounds",
}
WORDS = {
    "design": "Design",
    "eligibility": "Eligibility",
    "treatment": "Treatment between images and outcome",
    "setting": "Setting",
    "source": "Source of the patients",
    "accrual": "Years",
    "contours": "How masks were made",
    "operators": "Who made them",
    "sample_size": "Sample size",
    "fairness": "Fairness",
    "use": "Where in care the model would stand",
}


def model(results: Results, study: Study) -> list[str]:
    """Type, inputs, layers, parameters, output."""
    size, inputs = study.model, []
    if study.radiomics.source != "none":
        inputs.append(f"{formats.count(results.features, 'radiomic feature')}, as {size.components} components a group")
    if study.clinical:
        inputs.append(formats.listed([c.name for c in study.clinical]))
    if size.image and study.sequences:
        inputs.append(f"cubes of {study.imaging.crop_mm:g} mm of {formats.listed([s.name for s in study.sequences])}")
    said = [
        f"The frozen model is {DEEP[size.architecture]}.",
        f"It sees {'; '.join(inputs)}.",
        f"Width {size.width}, depth {size.depth}, dropout {size.dropout:g}, {results.parameters:,} parameters; beside "
        "the deep part a linear path on components and clinical values, and the log-odds are the sum of both."
        if size.architecture != "logistic"
        else f"{results.parameters:,} parameters.",
        f"Its output is the probability of “{results.endpoint}”"
        + (f", calibrated by {results.predicted.calibration}." if results.predicted else ", as the model gives it."),
        f"It was trained in {formats.count(len(results.rounds), 'round')} ({results.strategy}), seed {results.seed}. "
        "The last round's model is the one that is tested, whatever its loss. Outcomes were neither weighted nor "
        "resampled.",
    ]
    return said


def preprocessing(results: Results, study: Study) -> list[str]:
    """From files to inputs, the same at every hospital; and how identifiers are kept out."""
    if not study.sequences:
        return [
            "Hospitals brought tables of ready-made features; FedLoupe saw no image.",
            "Case names were replaced by pseudonyms keyed with a secret of the hospital before anything was computed; "
            "no name, date or path is in anything that left.",
        ]
    imaging = study.imaging
    kinds = formats.listed(sorted({f"{s.name} ({s.intensity})" for s in study.sequences}))
    shading = "shading corrected by N4" if imaging.bias_correction == "n4" else "shading left as it is"
    said = [
        f"Images were brought onto a grid of {imaging.spacing_mm:g} mm along the patient's axes "
        f"({imaging.interpolation} interpolation), {shading}, intensities normalised within each image: {kinds}.",
        "Every step has its settings in the protocol, needs no statistics of other hospitals, and is the same for "
        "every patient.",
        "Of DICOM files only pixels, geometry and a short list of technical attributes were read into the hospital's "
        "store; patient, accession and device identifiers were not, and free text that held one was refused. Cases "
        "carry pseudonyms keyed with a secret of the hospital.",
    ]
    drawn = [(s.site, s.drawn) for s in results.sites if s.drawn]
    if drawn:
        names = formats.listed([f"{site} ({formats.count(number, 'patient')})" for site, number in drawn])
        said.append(f"Masks were drawn by a model at {names}; all others are the hospitals' own.")
    elif study.segmentation is None:
        said.append("All masks are the hospitals' own.")
    return said


def declared(study: Study) -> Table | None:
    """What a person put into the study before it was approved; software checks none of it."""
    words = study.evidence.declared if study.evidence else None
    if words is None:
        return None
    rows = [(title, getattr(words, name)) for name, title in WORDS.items() if getattr(words, name)]
    rows += [("Test masks of one reader or a model", _yes(words))] if words.one_reader is not None else []
    return Table("Declared by the study, checked by nobody", ("Item", "As declared"), tuple(rows)) if rows else None


def unrepeatable(results: Results) -> Table:
    """What `fedloupe report` works out again from results.json, bit for bit, and what it cannot."""
    sites = "No: needs patients' scores, which stayed there"
    rows = [
        ("Site AUC, DeLong and bootstrap intervals, paired comparisons", sites),
        ("Brier score, calibration intercept, slope, smooth curve, recalibration", sites),
        ("Rates at the threshold; results by subgroup and grade", sites),
        ("Table 1, missing data, cohort flow", "No: needs the hospitals' stores"),
        ("Score histograms, and their sum over training sites", "No: needs patients' scores, and a secure sum"),
        ("Weights of each round", "No: needs every hospital's images and labels; the digests are in provenance.json"),
        ("Random-effects pooling, tau2, I2, prediction intervals", "Yes"),
        ("Predictive values and Wilson intervals, net benefit, observed over expected", "Yes"),
        ("Pooled ROC and calibration curves", "Yes, from the histograms above"),
        ("Standardised differences, expected precision, checklists", "Yes"),
    ]
    if private.level(results):
        rows.append(("Noise of private rounds", "No: drawn from the operating system and not kept"))
    return Table(
        "Can it be worked out again from this run's results.json alone?", ("Numbers", "Recomputable"), tuple(rows)
    )


def _yes(words: Declared) -> str:
    return "yes" if words.one_reader else "no"
