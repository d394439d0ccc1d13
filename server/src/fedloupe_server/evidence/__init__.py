"""What came out: results, their pooling, figures and the report.

write_report(results, folder, study)    # report.html, figures/*.svg and *.csv, tables/*.csv
summary_table(results)                  # rows for a terminal or a script
"""

from fedloupe_server.evidence.loading import ResultsInvalid, ResultsUnreadable, load_results
from fedloupe_server.evidence.report import ReportUnwritable, write_report
from fedloupe_server.evidence.results import LeftOut, Pooled, Results, RoundRecord, Scores, SiteResult
from fedloupe_server.evidence.summary import SummaryRow, summary_json, summary_table

__all__ = [
    "LeftOut",
    "Pooled",
    "ReportUnwritable",
    "Results",
    "ResultsInvalid",
    "ResultsUnreadable",
    "RoundRecord",
    "Scores",
    "SiteResult",
    "SummaryRow",
    "load_results",
    "summary_json",
    "summary_table",
    "write_report",
]
