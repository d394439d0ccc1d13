"""From the case store to what a model sees: features and crops, derived once and kept, then split by patient.

derive(home, study)                  # imaging and radiomics for every ready case; resumes where it stopped
cohort = load_cohort(home, study, site)
seen_by(another, site, cohort)       # the same patients as a study with another seed, split or `model.inputs` has them
"""

from fedloupe_client.dataset.cohort import Cohort, cohort_digest, load_cases, load_cohort, seen_by
from fedloupe_client.dataset.derive import derivation, derive, derived_path, problems
from fedloupe_client.dataset.splits import SPLITS, OneClass, split_cases

__all__ = [
    "SPLITS",
    "Cohort",
    "OneClass",
    "cohort_digest",
    "derivation",
    "derive",
    "derived_path",
    "load_cases",
    "load_cohort",
    "problems",
    "seen_by",
    "split_cases",
]
