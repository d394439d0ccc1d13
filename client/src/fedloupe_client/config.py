"""A site's own configuration, `site.yaml` in its home folder: where the data are and how they are named.

Never part of the study, never sent.

    home/
      site.yaml       this file
      policy.yaml     the site's limits (fedloupe_client.gate)
      store/          cases after ingest
      derived/        features and crops, by study fingerprint
      gate/           approvals, ledger, audit chain, answers
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedloupe.errors import FedLoupeError
from fedloupe.study import ScaleName
from fedloupe.study.loading import explain, read_yaml


class SiteConfigInvalid(FedLoupeError):
    """`site.yaml` is not a site's configuration."""

    code = "FL-201"
    title = "site configuration is not valid"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


DRAWING = (
    "folder of a drawing model, for cases without a mask alone; relative to the home folder. None: they are left out"
)
Encoding = Literal["utf-8", "utf-16", "windows-1252", "windows-1250", "windows-1251", "gb18030", "shift_jis", "euc_kr"]
DateFormat = Literal["YYYY-MM-DD", "DD.MM.YYYY", "YYYYMMDD"]


class Exams(_Frozen):
    """Which row of a patient counts where the table has one row an examination."""

    date: str = Field(description="column with the examination's date")
    take: Literal["first", "last", "closest_before_treatment"]


class Dates(_Frozen):
    """Columns with dates. The record keeps the days between them, never a date."""

    imaging: str | None = None
    treatment: str | None = Field(default=None, description="first day of treatment")
    outcome: str | None = Field(default=None, description="day on which the outcome was judged")


class Layout(_Frozen):
    """How a table is written that has no header line, no case ids, or a sign for unknown values."""

    names: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="columns of a table without a header line, from left to right; empty: it has one"
    )
    missing: tuple[str, ...] = Field(default=(), description="cells that mean unknown, as the empty one does")
    number: str | None = Field(
        default=None, description="column to add to a table without ids: `row-1`, `row-2`, ... from the top"
    )

    @model_validator(mode="after")
    def _each_column_once(self) -> Self:
        named = [*self.names, *([self.number] if self.number else [])]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"`layout` names {twice} more than once")
        return self


class Clinical(_Frozen):
    """The clinical table: one row a case, or one row an examination where `exams` says which counts."""

    file: str = Field(description="CSV (or .csv.gz), relative to `root`")
    case: str = Field(default="case", description="column with the case's local id, which also names its files")
    patient: str | None = Field(
        default=None, description="column with the patient's local id; None: one case a patient"
    )
    where: dict[str, str] = Field(default={}, description="keep rows whose column equals the value; `ABC*` is a prefix")
    encoding: Encoding | None = Field(
        default=None, description="of the clinical table; None: UTF-8, UTF-16 or told apart"
    )
    layout: Layout = Layout()
    exams: Exams | None = Field(default=None, description="None: several rows of one patient are an error")
    dates: Dates = Dates()
    date_format: DateFormat = "YYYY-MM-DD"
    scale: ScaleName | None = Field(
        default=None, description="scale of the outcome column; None: the study's own values stand in it"
    )

    @model_validator(mode="after")
    def _closest_to_what(self) -> Self:
        if self.exams is not None and self.exams.take == "closest_before_treatment" and self.dates.treatment is None:
            raise ValueError("`exams.take: closest_before_treatment` needs `dates.treatment`")
        return self


class DicomSource(_Frozen):
    """DICOM in any folder structure; the case is the PatientID unless the folder below `images` is."""

    format: Literal["dicom"]
    root: Path
    clinical: Clinical
    images: str = Field(default=".", description="folder of DICOM files, relative to `root`")
    exam: Literal["first", "last"] | None = Field(
        default=None, description="which study counts where a case has several; None: several are an error"
    )
    series: dict[str, str] = Field(
        default={}, description="sequence name to a regular expression on SeriesDescription; else tags decide"
    )
    rules: str | None = Field(
        default=None, description="the site's own series rules, relative to `root`; None: configs/series-rules.yaml"
    )
    choices: str | None = Field(
        default=None, description="CSV of series chosen by hand (case, sequence, series), relative to `root`"
    )
    roi: str = Field(
        default="(?i)tumou?r|gtv|lesion", description="regular expression: RTSTRUCT ROI name or SEG segment label"
    )
    mask: str | None = Field(
        default=None,
        description="NIfTI or NRRD masks instead of RTSTRUCT or SEG: file pattern with `{case}`, relative to `root`",
    )
    drawing: Path | None = Field(default=None, description=DRAWING)


class NiftiSource(_Frozen):
    """NIfTI or NRRD files named by pattern; `{case}` is the case's local id."""

    format: Literal["nifti"]
    root: Path
    clinical: Clinical
    files: dict[str, str] = Field(description="sequence name to file pattern, relative to `root`")
    mask: str = Field(description="file pattern of the tumour mask, on the grid of the study's first sequence")
    drawing: Path | None = Field(default=None, description=DRAWING)


class TableSource(_Frozen):
    """A table of features that the site already has; labels and clinical values are in the clinical table.

    Where both are one file, `clinical.encoding` and `clinical.layout` count for the features too.
    """

    format: Literal["table"]
    root: Path
    clinical: Clinical
    features: str = Field(description="CSV with the case column and the features, relative to `root`")
    exclude: tuple[str, ...] = Field(default=(), description="columns that are not features")


class Connection(_Frozen):
    """The way to the coordinator, for `fedloupe-site check`; the site process never opens a connection."""

    server: str | None = Field(
        default=None, pattern=r"^[^\s:/]+:\d{1,5}$", description="the coordinator's proxy, `host:port`"
    )
    root_certificate: Path | None = Field(
        default=None,
        description="the coordinator's CA certificate, PEM, relative to the home folder; None: the system's",
    )


class SiteConfig(_Frozen):
    """One hospital."""

    site: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    source: Annotated[DicomSource | NiftiSource | TableSource, Field(discriminator="format")]
    connection: Connection = Connection()


def load_site(home: Path) -> SiteConfig:
    """Read `home/site.yaml`; a relative `root` or `drawing` is relative to `home`.

    Raises:
        StudyUnreadable: the file cannot be read.
        SiteConfigInvalid: naming each wrong key.
    """
    path = home / "site.yaml"
    try:
        config = SiteConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise SiteConfigInvalid(explain(error), where=str(path), remedy="see configs/site-example.yaml") from None
    places = {"root": (home / config.source.root).resolve()}
    if not isinstance(config.source, TableSource) and config.source.drawing is not None:
        places["drawing"] = (home / config.source.drawing).resolve()
    return config.model_copy(update={"source": config.source.model_copy(update=places)})
