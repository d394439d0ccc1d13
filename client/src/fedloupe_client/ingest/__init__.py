"""From a hospital's DICOM, NIfTI or tables to a store of pseudonymous cases.

report = ingest(load_site(home), study, home)
store = load_store(home)
"""

from fedloupe_client.ingest.build import ingest
from fedloupe_client.ingest.store.records import CaseRecord, Index, IngestReport, Store, load_store

__all__ = ["CaseRecord", "Index", "IngestReport", "Store", "ingest", "load_store"]
