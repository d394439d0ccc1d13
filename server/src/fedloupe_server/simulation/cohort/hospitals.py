"""Synthetic hospitals by the name of their cohort: the demo's six, and seven of which five have a CT.

HOSPITALS["ct"]      # harbour trains without CT; island and coast only validate, without and with CT
"""

from __future__ import annotations

from dataclasses import replace

from fedloupe_server.simulation.cohort.spec import DEMO_SITES, SiteSpec

_PATIENTS = {"north": 60, "harbour": 50, "lakeside": 60, "hillcrest": 40, "riverside": 50, "island": 40}
_WITHOUT_CT = ("harbour", "island")
# Coarser than in the demo: registration takes half the time, and studies at 2 mm lose little.
_T2_MM = (2.0, 3.5)

CT_SITES = (
    *(replace(s, patients=_PATIENTS[s.name], t2_mm=_T2_MM, has_ct=s.name not in _WITHOUT_CT) for s in DEMO_SITES),
    SiteSpec(
        "coast", "validate", 50, 0.43, "nifti", gain=0.6, gamma=0.95, bias=0.20, noise=0.025,
        blur_mm=0.9, t2_mm=_T2_MM, functional_mm=(2.0, 3.5), adc_scale=0.99, late_shift=0.02, contour=0.03, has_ct=True,
    ),
)  # fmt: skip

HOSPITALS = {"demo": DEMO_SITES, "ct": CT_SITES}
