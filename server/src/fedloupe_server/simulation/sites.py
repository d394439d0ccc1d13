"""The sites file of a one-machine run: each site's source and policy, so that real data pass through real homes.

sites:
  siemens:
    source: {format: nifti, root: images/sts_mr_crops, ...}   # as in a hospital's site.yaml; root below --data
policy: {minimum_cohort: 2}                                   # as in a hospital's policy.yaml, for every site

In the place of `sites` a section `generate` makes SYNTHETIC hospitals (`simulation.generating`).
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe.study.loading import explain, read_yaml
from fedloupe_server.simulation.cohort import CohortSpec, claim
from fedloupe_server.simulation.generating import Generate, synthetic_source


class SitesInvalid(FedLoupeError):
    """The sites file does not serve the study."""

    code = "FL-710"
    title = "the sites file does not serve the study"


class NoData(FedLoupeError):
    """The folder of the sites' data was not given or is not there."""

    code = "FL-711"
    title = "the folder of the sites' data is not known"


class _Sites(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sites: dict[str, dict[str, Any]] = {}
    generate: Generate | None = None
    policy: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.sites) == (self.generate is not None):
            raise ValueError("give either `sites` or `generate`")
        return self


def sites_of(
    study: Study, sites_file: Path, data: Path | None, folder: Path, *, fresh: bool = False
) -> tuple[dict[str, Path], tuple[Path, CohortSpec] | None]:
    """The homes of a study's sites, and the synthetic cohort that `prepare_sites` has to generate for them, if any.

    Args:
        study: the study.
        sites_file: see the module's text.
        data: folder below which the sources' roots lie; not looked at with `generate`.
        folder: of the run. Homes are made in `sites`, synthetic hospitals in `synthetic-hospitals`.
        fresh: empty the folder first; not before the files are found in order.

    Raises:
        SitesInvalid: the file lacks a site, or is not a sites file.
        NoData: the sites' data are not generated, and no folder was given, or it does not exist.
        GeneratedForReal: synthetic hospitals for a study that is not called synthetic.
        UnknownCohortSite: a site of the study is none of the synthetic hospitals.
        CohortFolderTaken: the run's folder holds another synthetic cohort.
    """
    content = _read(sites_file)
    if content.generate is None:
        sources, cohort = _found(study, content, sites_file, data), None
    else:
        cohort = (folder / "synthetic-hospitals", content.generate.cohort(study, sites_file))
        sources = {site.name: synthetic_source(cohort[0], site, study) for site in cohort[1].sites}
    if fresh and folder.exists():
        shutil.rmtree(folder)
    if cohort:
        claim(*cohort)
    return _homes(study, sources, content.policy, folder / "sites"), cohort


def make_homes(study: Study, sites_file: Path, data: Path, homes: Path) -> dict[str, Path]:
    """Write a home for each site of the study: `site.yaml`, `policy.yaml` and a seeded pseudonym key.

    The key comes from the study's seed: on one machine it hides nothing, and equal seeds must give equal runs.

    Args:
        study: the study whose sites are wanted.
        sites_file: see the module's text; one with `sites`.
        data: folder below which the sources' roots lie.
        homes: where the homes are made; existing stores in them stay.

    Raises:
        SitesInvalid: the file lacks a site, or is not a sites file.
        NoData: there is no such folder.
    """
    content = _read(sites_file)
    return _homes(study, _found(study, content, sites_file, data), content.policy, homes)


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


def _read(sites_file: Path) -> _Sites:
    try:
        return _Sites.model_validate(read_yaml(sites_file))
    except ValidationError as error:
        raise SitesInvalid(
            explain(error),
            where=str(sites_file),
            remedy="see configs/sarcoma-mri.sites.yaml, or configs/demo-large.sites.yaml for synthetic hospitals",
        ) from None


def _found(study: Study, content: _Sites, sites_file: Path, data: Path | None) -> dict[str, dict[str, Any]]:
    """Each site's source, its root absolute."""
    if data is None or not data.is_dir():
        raise NoData(
            "no folder was given" if data is None else "there is no such folder",
            where=str(data or sites_file),
            remedy="give --data FOLDER or set FEDLOUPE_DATA; the sites file names sources below it",
        )
    if missing := sorted({s.name for s in study.sites} - set(content.sites)):
        raise SitesInvalid(
            f"no entry for {missing}", where=str(sites_file), remedy="add a source for each site of the study"
        )
    sources = {site.name: dict(content.sites[site.name]["source"]) for site in study.sites}
    for source in sources.values():
        source["root"] = str((data / source.get("root", ".")).resolve())
    return sources


def _homes(study: Study, sources: dict[str, dict[str, Any]], policy: dict[str, Any], homes: Path) -> dict[str, Path]:
    return {name: make_home(homes / name, study, name, source, policy) for name, source in sources.items()}
