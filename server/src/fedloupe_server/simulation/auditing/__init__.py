"""Attacks on FedLoupe's own training, to see that they fail where they should: canaries, inversion, membership.

found = audit_canaries(spend, privacy)        # an empirical lower bound of epsilon, beside the formal one
back = invert(study, groups)                  # what one patient's gradient gives away, without and with noise
told = membership(run_dir, homes, study)      # whether a finished run's model can tell who trained it
"""

from fedloupe_server.simulation.auditing.canaries import CanaryAudit, audit_canaries, epsilon_bound
from fedloupe_server.simulation.auditing.inversion import Inversion, invert
from fedloupe_server.simulation.auditing.membership import Attack, Membership, NothingToAttack, membership

__all__ = [
    "Attack",
    "CanaryAudit",
    "Inversion",
    "Membership",
    "NothingToAttack",
    "audit_canaries",
    "epsilon_bound",
    "invert",
    "membership",
]
