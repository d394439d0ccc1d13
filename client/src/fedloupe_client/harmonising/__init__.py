"""The site's part of ComBat: its terms of the sums, and its own shifts, which never leave.

terms = residuals(study, cohort, centre, scale, beta)
own = Harmonised.fit(study, cohort, harmoniser, scope="train")      # the shift of each batch
own.apply(study, cohort).features                                   # what scaling and models see
"""

from fedloupe_client.harmonising.own import BatchTooSmall, Harmonised, HarmonisedDamaged, batches
from fedloupe_client.harmonising.terms import (
    HarmonisationMisfit,
    check_fit,
    covariates,
    cross_products,
    residuals,
    shifted,
)

__all__ = [
    "BatchTooSmall",
    "HarmonisationMisfit",
    "Harmonised",
    "HarmonisedDamaged",
    "batches",
    "check_fit",
    "covariates",
    "cross_products",
    "residuals",
    "shifted",
]
