"""The sites file of a one-machine run: each site's source and policy, so that real data pass through real homes.

sites:
  siemens:
    source: {format: nifti, root: images/sts_mr_crops, ...}   # as in a hospital's site.yaml; root below --data
policy: {minimum_cohort: 2}                                   # as in a hospital's policy.yaml, for every site
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe.study.loading import explain, read_yaml


class SitesInvalid(FedLoupeError):
    """The sites file does not serve the study."""

    code = "FL-710"
    title = "the sites file does not serve the study"


class _Sites(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sites: dict[str, dict[str, Any]]
    policy: dict[str, Any] = {}


def make_homes(study: Study, sites_file: Path, data: Path, homes: Path) -> dict[str, Path]:
    """Write a home for each site of the study: `site.yaml`, `policy.yaml` and a seeded pseudonym key.

    The key comes from the study's seed: on one machine it hides nothing, and equal seeds must give equal runs.

    Args:
        study: the study whose sites are wanted.
        sites_file: see the module's text.
        data: folder below which the sources' roots lie.
        homes: where the homes are made; existing stores in them stay.

    Raises:
        SitesInvalid: the file lacks a site, or is not a sites file.
    """
    try:
        content = _Sites.model_validate(read_yaml(sites_file))
    except ValidationError as error:
        raise SitesInvalid(explain(error), where=str(sites_file), remedy="see configs/sarcoma-mri.sites.yaml") from None
    if missing := sorted({s.name for s in study.sites} - set(content.sites)):
        raise SitesInvalid(
            f"no entry for {missing}", where=str(sites_file), remedy="add a source for each site of the study"
        )
    made = {}
    for site in study.sites:
        source = dict(content.sites[site.name]["source"])
        source["root"] = str((data / source.get("root", ".")).resolve())
        made[site.name] = make_home(homes / site.name, study, site.name, source, content.policy)
    return made


def make_home(home: Path, study: Study, site: str, source: dict[str, Any], policy: dict[str, Any]) -> Path:
    """One home, ready for ingest."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "site.yaml").write_text(yaml.safe_dump({"site": site, "source": source}, sort_keys=False))
    if policy:
        (home / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
    key = home / "secret.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(hashlib.sha256(f"{study.seed}|{site}".encode()).digest())
    return home
