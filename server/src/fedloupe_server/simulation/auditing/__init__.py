"""Attacks on FedLoupe's own training, to see that they fail where they should: canaries, inversion, membership.

found = audit_canaries(spend, privacy)                  # an empirical lower bound of epsilon, beside the formal one
drawn = audit_sampling(spend, privacy)                  # whether patients are drawn as that is priced
back = invert(study, groups)                            # what one patient's gradient gives away, without and with noise
rows = invert_updates(study, groups, privacy)           # and a hospital's update, alone, summed, private
told = membership(run_dir, homes, study, shadows=16)    # whether a finished run's model can tell who trained it
"""

from fedloupe_server.simulation.auditing.canaries import CanaryAudit, audit_canaries, epsilon_bound
from fedloupe_server.simulation.auditing.inversion import Inversion, invert
from fedloupe_server.simulation.auditing.likelihood import Rehearsal, likelihood_ratio, rehearse
from fedloupe_server.simulation.auditing.membership import Membership, NothingToAttack, Ranked, membership
from fedloupe_server.simulation.auditing.ranking import Attack, Caught, Promise
from fedloupe_server.simulation.auditing.reading import attack_on, likeness
from fedloupe_server.simulation.auditing.sampling import SamplingAudit, audit_sampling
from fedloupe_server.simulation.auditing.shadows import Shadows, federate, train_shadows
from fedloupe_server.simulation.auditing.updates import Row, Seen, invert_updates

__all__ = [
    "Attack",
    "CanaryAudit",
    "Caught",
    "Inversion",
    "Membership",
    "NothingToAttack",
    "Promise",
    "Ranked",
    "Rehearsal",
    "Row",
    "SamplingAudit",
    "Seen",
    "Shadows",
    "attack_on",
    "audit_canaries",
    "audit_sampling",
    "epsilon_bound",
    "federate",
    "invert",
    "invert_updates",
    "likelihood_ratio",
    "likeness",
    "membership",
    "rehearse",
    "train_shadows",
]
