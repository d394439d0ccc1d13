"""The section `generate` of a sites file: SYNTHETIC hospitals in the place of sources.

generate: {hospitals: demo, seed: 1, scale: 2.44}
generate: {hospitals: ct, seed: 1, calcification: -0.9}
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_server.simulation.cohort import HOSPITALS, CohortSpec, SiteSpec
from fedloupe_server.simulation.cohort.files import site_configuration
from fedloupe_server.simulation.cohort.spec import HEAVIEST


class GeneratedForReal(FedLoupeError):
    """Synthetic hospitals serve only a study that calls itself synthetic, so that its report does too."""

    code = "FL-784"
    title = "synthetic hospitals for a study that is not called synthetic"


class Generate(BaseModel):
    """Which synthetic hospitals, and how many patients."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    hospitals: Literal["demo", "ct"] = Field(
        default="demo", description="demo: the six of the demonstration; ct: seven, five of which have a CT"
    )
    seed: int = Field(default=1, ge=0, lt=2**31, description="of patients and images")
    scale: float = Field(default=1.0, gt=0, le=100, description="factor on each hospital's patients")
    calcification: float | None = Field(
        default=None,
        ge=-HEAVIEST,
        le=HEAVIEST,
        description="weight in the score of what CT alone shows; 0: shown without bearing on response; None: not shown",
    )

    def cohort(self, study: Study, sites_file: Path) -> CohortSpec:
        """The study's sites among these hospitals.

        Raises:
            GeneratedForReal: the study is not `synthetic: true`.
            UnknownCohortSite: the study has a site that is none of these hospitals.
        """
        if not study.synthetic:
            raise GeneratedForReal(
                f"the study `{study.study}` lacks `synthetic: true`",
                where=str(sites_file),
                remedy="say `synthetic: true` in the study, or name real sources under `sites`",
            )
        spec = CohortSpec(self.seed, HOSPITALS[self.hospitals], self.calcification).scaled(self.scale)
        return replace(spec, sites=tuple(spec.site(site.name) for site in study.sites))


def synthetic_source(cohort: Path, site: SiteSpec, study: Study) -> dict[str, Any]:
    """The `source` of a synthetic hospital's `site.yaml`: its root absolute, of the sequences the study's alone."""
    source: dict[str, Any] = dict(site_configuration(site)["source"])
    wanted = {sequence.name for sequence in study.sequences}
    for key in {"files", "series"} & set(source):
        source[key] = {name: where for name, where in source[key].items() if name in wanted}
    source["root"] = str((cohort / site.name / str(source["root"])).resolve())
    return source
