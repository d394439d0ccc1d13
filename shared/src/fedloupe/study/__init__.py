"""The study: one YAML that every party agrees on, and its fingerprint.

study = load_study(Path("configs/demo.yaml"))
study.fingerprint            # changes with anything that matters, and with nothing else
"""

from fedloupe.study.client_level import CLIENT, RECORD, ClientDp, numbers, privacy_in_words
from fedloupe.study.endpoint import Endpoint, Grades
from fedloupe.study.evaluation import Evaluation, TreePlan
from fedloupe.study.evidence import Declared, Evidence, LabelSheet, Subgroup
from fedloupe.study.harmonisation import Harmonisation
from fedloupe.study.inputs import InputKind, clinical_inputs, input_kinds, sees, sees_group
from fedloupe.study.loading import StudyInvalid, StudyUnreadable, canonical_json, load_study, parse_study
from fedloupe.study.outcomes import SCALES, Scale, ScaleName
from fedloupe.study.personalisation import Personalisation
from fedloupe.study.prediction import LinePrior, Prediction
from fedloupe.study.protocol import (
    ClinicalVariable,
    Imaging,
    Model,
    Radiomics,
    Role,
    Sequence,
    Site,
    Split,
    Study,
)
from fedloupe.study.quality import Perturbation, Quality
from fedloupe.study.quorum import Presence, Quorum
from fedloupe.study.segmentation import Segmentation
from fedloupe.study.training import DpSgd, NoPrivacy, Training

__all__ = [
    "CLIENT",
    "RECORD",
    "SCALES",
    "ClientDp",
    "ClinicalVariable",
    "Declared",
    "DpSgd",
    "Endpoint",
    "Evaluation",
    "Evidence",
    "Grades",
    "Harmonisation",
    "Imaging",
    "InputKind",
    "LabelSheet",
    "LinePrior",
    "Model",
    "NoPrivacy",
    "Personalisation",
    "Perturbation",
    "Prediction",
    "Presence",
    "Quality",
    "Quorum",
    "Radiomics",
    "Role",
    "Scale",
    "ScaleName",
    "Segmentation",
    "Sequence",
    "Site",
    "Split",
    "Study",
    "StudyInvalid",
    "StudyUnreadable",
    "Subgroup",
    "Training",
    "TreePlan",
    "canonical_json",
    "clinical_inputs",
    "input_kinds",
    "load_study",
    "numbers",
    "parse_study",
    "privacy_in_words",
    "sees",
    "sees_group",
]
