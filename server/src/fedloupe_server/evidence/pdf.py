"""The report's page as PDF: the same HTML, laid out for paper by WeasyPrint.

    note = write_pdf(run / "report.html", run / "report.pdf")   # None: it is there; else what to install

WeasyPrint needs Pango from the system. Where that is not to be had, the report is its HTML and a sentence about it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

from fedloupe.errors import FedLoupeError

MISSING = (
    "no PDF was written: what lays it out is not there. Install WeasyPrint (pip: fedloupe-server[pdf]) and Pango "
    "(Debian: libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0), write the report again, or print report.html"
)


class PdfUnwritable(FedLoupeError):
    """The report's page cannot be read, or its PDF cannot be written."""

    code = "FL-824"
    title = "PDF of the report cannot be written"


def write_pdf(page: Path, pdf: Path) -> str | None:
    """Write the page's PDF, whole or not at all; the same page, fonts and WeasyPrint give the same bytes.

    Nothing is fetched: what the page names by another URL than `data:` is left out.

    Args:
        page: HTML that holds its own styles and figures.
        pdf: replaced, or where it cannot be made removed, because it would show an earlier page.

    Returns:
        None, or a sentence that says why there is no PDF and what to install.

    Raises:
        PdfUnwritable: see there.
    """
    try:
        text = page.read_text(encoding="utf-8")
        if (weasyprint := _weasyprint()) is None:
            pdf.unlink(missing_ok=True)
            return MISSING
        content = _laid_out(weasyprint, text)
        part = pdf.with_name(f".{pdf.name}.part")
        part.write_bytes(content)
        os.replace(part, pdf)
    except OSError as error:
        raise PdfUnwritable(
            f"{error.strerror or error}",
            where=str(error.filename or pdf),
            remedy="check that the folder may be read and written and the disk has room, then write the report again",
        ) from None
    return None


def _weasyprint() -> ModuleType | None:
    """WeasyPrint, or None where it or a library that it needs is not installed."""
    try:
        with redirect_stdout(StringIO()):  # it prints a page's worth before it raises
            import weasyprint
    except (ImportError, OSError):
        return None
    found: ModuleType = weasyprint
    return found


def _laid_out(weasyprint: ModuleType, text: str) -> bytes:
    from weasyprint.urls import URLFetcher

    fetcher = URLFetcher(allowed_protocols=("data",), allow_redirects=False)
    with _quiet():
        document = weasyprint.HTML(string=text, base_url="data:,", url_fetcher=fetcher, media_type="print")
        content: bytes = document.write_pdf(pdf_tags=True)
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Its warnings are of rules that only screens and other browsers know, some for each element."""
    loggers = [logging.getLogger(name) for name in ("weasyprint", "fontTools")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
