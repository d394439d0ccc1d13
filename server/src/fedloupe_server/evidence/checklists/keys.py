"""What a pack can show, as a closed list: a checklist asks for these keys, and a run's pack says where each stands.

Key("flow").meaning, Key("flow").home      # what must stand there, and where a pack usually has it

A pack names a key only if its file says what the meaning says, for this run. Keys under "declared" need words that a
person put into the study before it was sealed: no pipeline can know them.
"""

from __future__ import annotations

from enum import StrEnum


class Key(StrEnum):
    """One thing that a file of the pack shows."""

    meaning: str
    home: str

    def __new__(cls, value: str, home: str, meaning: str) -> Key:
        """A key with its usual place in a pack and its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.home = home
        member.meaning = meaning
        return member

    # declared by a person in the sealed study or a site's label sheet
    ELIGIBILITY = "eligibility", "protocol.md#eligibility", "who may enter and who may not, clinically and technically"
    TREATMENT = "treatment", "protocol.md#eligibility", "treatment between imaging and outcome, and how it was handled"
    DESIGN = "design", "protocol.md#eligibility", "whether patients were collected prospectively or retrospectively"
    SETTING = "setting", "protocol.md#sites", "place and level of care of each centre"
    SOURCE = "source", "protocol.md#sites", "what each site's patients come from: routine care, registry or trial"
    ACCRUAL = "accrual", "protocol.md#sites", "first and last year of imaging at each site, and the end of follow-up"
    ASSESSOR = "assessor", "report.html#labels", "who assessed the outcome at each site, with which qualification"
    BLINDING = "blinding", "report.html#labels", "by site, whether the outcome was assessed without the prediction"
    HISTOLOGY = "histology", "report.html#labels", "the outcome is read from the resected tissue at every site"
    CONTOURS = "contours", "report.html#preprocessing", "how masks were made at each site, and by which rule"
    OPERATORS = "operators", "report.html#preprocessing", "who drew masks at each site, with which experience"
    ONE_READER = "one-reader", "report.html#preprocessing", "each test patient's mask is of one reader or of a model"

    # the sealed study
    QUESTION = (
        "question",
        "protocol.md#question",
        "what is predicted, of whom; which sites develop, which only evaluate",
    )
    OUTCOME = "outcome", "protocol.md#outcome", "the outcome: scale, time, and which grades count as the event"
    PREDICTORS = "predictors", "protocol.md#predictors", "every input offered to the model, with unit, coding and time"
    SETTINGS = "settings", "protocol.md#features", "all settings of the feature engine: classes, filters, grey levels"
    STEPS = "steps", "protocol.md#preprocessing", "every step from image to input, the same for every patient"
    DIVISION = "division", "protocol.md#split", "how patients are divided: by patient, seed, shares, strata, external"
    ABSENCES = "absences", "protocol.md#missing", "how missing sequences, values and outcomes are handled"
    TRAINING = (
        "training",
        "protocol.md#training",
        "architecture, start, optimiser, hyperparameters, choice of the model",
    )
    IMBALANCE = "imbalance", "protocol.md#training", "whether classes are weighted or resampled; said where not, too"
    PLAN = "plan", "protocol.md#evaluation", "every measure, interval, plot and comparison, set before external sites"
    SIZE = "size", "protocol.md#sample-size", "how many patients and events there are, why, and what that suffices for"
    SEAL = "seal", "seal.json#", "signed digests of study, weights, preparation, threshold, plan"

    # the report
    SITES = "sites", "report.html#sites", "every centre with role, patients and events"
    MULTICENTRE = "multicentre", "report.html#sites", "images of more than one hospital were used"
    FLOW = "flow", "report.html#flow", "patients from found to analysed by site, left out by reason, with events"
    TABLE_1 = "table-1", "report.html#table-1", "clinical characteristics by site and split, small cells suppressed"
    MISSING = "missing", "report.html#missing", "how much of each input is missing, by site"
    LABELS = "labels", "report.html#labels", "for each site its scale and the mapping used, with counts"
    INTERVAL = "interval", "report.html#labels", "days from imaging to outcome, by site"
    ACQUISITION = "acquisition", "report.html#table-1", "vendor, field strength, voxel size, TR and TE by site"
    SPLITS = "splits", "report.html#splits", "patients and events that trained, tuned, tested, were external"
    DEVELOPMENT = "development", "report.html#development", "inputs and outcome of development against evaluation (SMD)"
    FEATURES = "features", "report.html#features", "how many features were offered, kept and dropped, by reason"
    STABILITY = "stability", "report.html#features", "features that do not repeat under perturbation were dropped"
    REDUNDANCY = "redundancy", "report.html#features", "redundant features were dropped or projected, with numbers"
    MODEL = "model", "report.html#model", "the frozen model: type, inputs, layers, parameters, output"
    DISCRIMINATION = "discrimination", "report.html#discrimination", "AUC with 95 % interval, by site and pooled; ROC"
    INTERNAL = "internal", "report.html#discrimination", "results on patients of training sites that never trained"
    OPERATING = "operating", "report.html#operating", "confusion counts and rates at the frozen threshold; its origin"
    CALIBRATION = "calibration", "report.html#calibration", "calibration in the large, slope, O/E and curve by site"
    RECALIBRATION = "recalibration", "report.html#recalibration", "updates on a sample apart, before and after"
    DECISION = "decision", "report.html#decision", "net benefit over a declared range of thresholds"
    HETEROGENEITY = "heterogeneity", "report.html#heterogeneity", "tau2, I2 and prediction interval over sites"
    SUBGROUPS = "subgroups", "report.html#subgroups", "results with intervals in each group that the study declared"
    FAIRNESS = "fairness", "report.html#fairness", "what was done about fairness, and results by demographic group"
    EXTERNAL = "external", "report.html#external", "results at sites that never trained, as shipped"
    BASELINES = "baselines", "report.html#baselines", "simpler models on the same patients"
    CLINICAL = "clinical", "report.html#baselines", "clinical values alone, and with images, on the same patients"
    PAIRED = "paired", "report.html#benefit", "paired test or interval of each comparison, multiplicity stated"
    UNIPARAMETRIC = "uniparametric", "report.html#baselines", "one imaging set, or a formal comparison with fewer"
    LEFT_OUT = "left-out", "report.html#left-out", "everything fitted again without each site"
    SCANNERS = "scanners", "report.html#scanners", "whether and how shifts of scanners were taken out"
    HARMONISED = "harmonised", "report.html#scanners", "shifts of scanners or hospitals were taken out of inputs or fit"
    PRECISION = "precision", "report.html#precision", "half-width of the interval to be expected, before any result"
    LOSS = "loss", "report.html#rounds", "loss by round"
    UNREPEATABLE = "unrepeatable", "report.html#not-recomputable", "which data stayed at the sites, and what needs them"
    DEIDENTIFIED = "deidentified", "report.html#preprocessing", "how images and tables were stripped of identifiers"
    DICE = "dice", "report.html#preprocessing", "overlap of drawn masks with experts' (Dice), with examples"
    OBSERVERS = "observers", "report.html#features", "agreement of features between observers' masks"
    ROBUSTNESS = "robustness", "report.html#robustness", "change of predictions on perturbed or repeated images"
    MAPS = "maps", "report.html#explanation", "explanations with their sanity checks"
    PIPELINE = "pipeline", "figures/pipeline.svg#", "a drawing of every step from image to result"

    # other files
    USE = "use", "model-card.md#intended-use", "for whom and what the model is meant, by whom used, and for what not"
    RUNNING = (
        "running",
        "model-card.md#how-to-run",
        "what a user does for a patient, with which expertise; what stops it",
    )
    FILES = "files", "model/README.md#files", "weights and preparation as files, with format, digest, licence"
    INPUT = "input", "model/README.md#input", "what the model needs, and what happens if it is poor or missing"
    EXAMPLE = "example", "model/README.md#example", "a worked example from input to probability"
    SOFTWARE = "software", "provenance.json#", "version, commit and licence of the code, and versions of libraries"
    ENGINE = "engine", "provenance.json#", "version of the feature engine and its agreement with IBSI"
    NUMBERS = "numbers", "tables/*.csv", "every figure and table as numbers"
