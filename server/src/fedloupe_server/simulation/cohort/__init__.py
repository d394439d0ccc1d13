"""Synthetic cohorts: the demo's six invented hospitals and others, and a response whose true probability is known.

generate_cohort(Path("out/cohort"), CohortSpec(seed=1).scaled(0.25))
"""

from fedloupe_server.simulation.cohort.files import write_patient, write_site_tables
from fedloupe_server.simulation.cohort.generate import claim, generate_cohort
from fedloupe_server.simulation.cohort.hospitals import CT_SITES, HOSPITALS
from fedloupe_server.simulation.cohort.latents import Patient, draw_patient
from fedloupe_server.simulation.cohort.oracle import OracleRow, oracle_table
from fedloupe_server.simulation.cohort.scanner import CaseImages, Image, simulate_case
from fedloupe_server.simulation.cohort.spec import (
    DEMO_SITES,
    CohortFolderTaken,
    CohortSpec,
    CohortSpecInvalid,
    CohortUnwritable,
    SiteSpec,
    UnknownCohortSite,
)

__all__ = [
    "CT_SITES",
    "DEMO_SITES",
    "HOSPITALS",
    "CaseImages",
    "CohortFolderTaken",
    "CohortSpec",
    "CohortSpecInvalid",
    "CohortUnwritable",
    "Image",
    "OracleRow",
    "Patient",
    "SiteSpec",
    "UnknownCohortSite",
    "claim",
    "draw_patient",
    "generate_cohort",
    "oracle_table",
    "simulate_case",
    "write_patient",
    "write_site_tables",
]
