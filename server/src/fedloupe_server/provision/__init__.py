"""A federation's beginning and its hospitals' coming and going: authority, keys, kits, rotation, revocation.

founded = provision(study, Path("FED"), "fl.example.org:443", app=Path("configs/app"))
enrol(Path("FED"), Path("north.request.json"))
load_federation(Path("FED")).couriers
"""

from fedloupe_server.provision.enrolling import Enrolled, enrol, revoke
from fedloupe_server.provision.federation import Courier, Expiry, Federation, load_federation
from fedloupe_server.provision.founding import Founded, provision, rotate_server
from fedloupe_server.provision.looking import Row, site_rows
from fedloupe_server.provision.records import FederationRecord, Revocation, SiteRecord
from fedloupe_server.provision.seen import note_seen

__all__ = [
    "Courier",
    "Enrolled",
    "Expiry",
    "Federation",
    "FederationRecord",
    "Founded",
    "Revocation",
    "Row",
    "SiteRecord",
    "enrol",
    "load_federation",
    "note_seen",
    "provision",
    "revoke",
    "rotate_server",
    "site_rows",
]
