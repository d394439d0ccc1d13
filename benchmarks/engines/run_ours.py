"""FedLoupe's engine as a process of `job`."""

from __future__ import annotations

from importlib.metadata import version

from engines.job import Bools, Floats, Job, around, serve
from fedloupe.features import (
    ALL_FAMILIES,
    ORIGINAL_FAMILIES,
    BinNumber,
    DiscretisationPlan,
    FeatureSettings,
    feature_table,
)
from fedloupe_client.radiomics import extract_case


def settings_of(job: Job) -> FeatureSettings:
    """The job in FedLoupe's terms; wavelets as the field defines them, not averaged over mirrored kernels."""
    return FeatureSettings(
        families=tuple(family for family in ALL_FAMILIES if family in job.families),
        original_families=tuple(family for family in ORIGINAL_FAMILIES if family in job.families),
        shape="shape" in job.families,
        log_sigmas_mm=tuple(job.log_sigmas_mm),
        wavelet=job.wavelet,
        wavelet_mirrored=False,
        simoncelli_levels=tuple(job.simoncelli_levels),
        laws=tuple(job.laws),
        laws_energy_mm=job.laws_radius * job.spacing_mm,
        discretisation=DiscretisationPlan(zscore=BinNumber(bins=job.bins), response=BinNumber(bins=job.bins)),
    )


def extract(image: Floats, mask: Bools, job: Job) -> dict[str, float]:
    """Columns of one case without the sequence's name."""
    settings = settings_of(job)
    box = around(mask, job.margin)
    row = extract_case({"mr": image[box]}, mask[box], job.spacing_mm, settings, {"mr": "zscore"})
    names = (name.removeprefix("mr|") for name in feature_table(settings, ["mr"]).names)
    return dict(zip(names, row.values.tolist(), strict=True))


if __name__ == "__main__":
    serve(f"fedloupe {version('fedloupe')}", extract)
