"""Is this hospital ready for the study? One answer, one page that stays here, and what to fix, most important first.

seen = preflight(home, study, workers=2)
page = write_page(seen, home, Path("study.yaml"))       # home/preflight/check.html, and check.json beside it
"""

from fedloupe_client.preflight.check import Preflight, Seen, preflight
from fedloupe_client.preflight.findings import Finding
from fedloupe_client.preflight.page import write_page

__all__ = ["Finding", "Preflight", "Seen", "preflight", "write_page"]
