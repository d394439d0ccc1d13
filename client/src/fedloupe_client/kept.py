"""Where a site keeps a study's frozen model and what belongs to it."""

from __future__ import annotations

from pathlib import Path

from fedloupe.study import Study

FOLDER = "models"


def release_path(home: Path, study: Study) -> Path:
    """The frozen model (`fedloupe.release.Release`)."""
    return home / FOLDER / f"{study.study}.safetensors"


def shifts_path(home: Path, study: Study) -> Path:
    """The site's own shifts of the run that made it, where its features are harmonised."""
    return home / FOLDER / f"{study.study}-harmonisation.safetensors"
