"""Every reason for which the gate says no, one class each.

except GateRefused as error:        # nothing was trained, nothing left
    blob = gate.refuse(error, request)
"""

from fedloupe.errors import FedLoupeError


class GateRefused(FedLoupeError):
    """Base of the gate's refusals."""

    code = "FL-500"
    title = "refused by the site's gate"


class StudyNotApproved(GateRefused):
    """This site has not approved a study with this fingerprint."""

    code = "FL-501"
    title = "the site has not approved this study"


class VersionMismatch(GateRefused):
    """Sender and site run different versions of FedLoupe."""

    code = "FL-502"
    title = "FedLoupe's versions differ"


class WrongSite(GateRefused):
    """The request is addressed to another site, or the study does not name this one."""

    code = "FL-503"
    title = "the request is not for this site"


class RoleRefused(GateRefused):
    """The site's role in the study does not allow this request."""

    code = "FL-504"
    title = "the site's role does not allow this request"


class KindNotAllowed(GateRefused):
    """The site's policy does not allow this kind of request, or it is no request at all."""

    code = "FL-505"
    title = "the site does not allow this kind of request"


class PolicyInvalid(GateRefused):
    """`policy.yaml` cannot be read or is not a policy; everything is refused until it is mended."""

    code = "FL-506"
    title = "the site's policy is not valid"


class PrivacyRequired(GateRefused):
    """The study's privacy is weaker than the site's policy asks."""

    code = "FL-507"
    title = "the study's privacy does not meet the site's policy"


class NotInStudy(GateRefused):
    """The approved study does not provide for this request."""

    code = "FL-508"
    title = "the approved study does not provide for this request"


class RoundRefused(GateRefused):
    """The round lies beyond the study's or the site's limit."""

    code = "FL-509"
    title = "round beyond the limit"


class SplitRefused(GateRefused):
    """The split may not be scored by this site in this run."""

    code = "FL-510"
    title = "this split may not be scored at this site"


class CohortTooSmall(GateRefused):
    """Fewer training patients than the site's policy asks."""

    code = "FL-511"
    title = "too few patients for the site's policy"


class CellTooSmall(GateRefused):
    """An answer would describe fewer patients than the site's smallest cell."""

    code = "FL-512"
    title = "a group of patients is too small to report"


class ReplyRefused(GateRefused):
    """What was about to leave is not the typed answer to the request."""

    code = "FL-513"
    title = "the answer was held back by the gate"


class ApprovalDamaged(GateRefused):
    """An approval on disk no longer holds the study that was approved."""

    code = "FL-514"
    title = "the site's approval record is damaged"


class BudgetExceeded(GateRefused):
    """The privacy budget does not cover the planned steps."""

    code = "FL-515"
    title = "privacy budget would be exceeded"


class LedgerDamaged(GateRefused):
    """The privacy ledger cannot be read or written."""

    code = "FL-516"
    title = "the site's privacy ledger cannot be used"


class AuditDamaged(GateRefused):
    """The audit chain was altered or shortened; nothing passes until somebody has looked."""

    code = "FL-517"
    title = "the site's audit chain is damaged"


class AlreadyAnswered(GateRefused):
    """Budget was asked for a request whose answer is stored; training again would spend again."""

    code = "FL-518"
    title = "the request was already answered"


class AnswerDamaged(GateRefused):
    """A stored answer is no longer a message."""

    code = "FL-519"
    title = "a stored answer is damaged"


class SumRefused(GateRefused):
    """A secure sum as it is asked could show one site's answer."""

    code = "FL-521"
    title = "the secure sum asked for is not safe"


class SetupUnknown(GateRefused):
    """This site does not hold the secrets of that set-up of secure sums."""

    code = "FL-522"
    title = "the site does not hold this set-up of secure sums"


class SecureSumsRequired(GateRefused):
    """The site's policy asks for secure sums, and the study's coordinator would see each site's terms."""

    code = "FL-523"
    title = "the site requires secure sums"


class UpdateTooLong(GateRefused):
    """Under client-level privacy: the weights moved further in this round than the study's clipping bound."""

    code = "FL-524"
    title = "the site's update exceeds the study's clipping bound"


class NotSigned(GateRefused):
    """The request has no coordinator's seal."""

    code = "FL-525"
    title = "the request is not signed"


class CoordinatorUnknown(GateRefused):
    """The request is signed with a key that this site did not approve."""

    code = "FL-526"
    title = "the site does not know this coordinator's key"


class RequestAltered(GateRefused):
    """The request is not what the coordinator signed."""

    code = "FL-527"
    title = "the request's signature does not fit"


class Replayed(GateRefused):
    """A request with this seal came before."""

    code = "FL-528"
    title = "the request was played back"


class OutOfTime(GateRefused):
    """The request's seal is no longer good, or not yet."""

    code = "FL-529"
    title = "the request's time is over or has not come"


class AwaitsDecision(GateRefused):
    """The site's policy wants a person to approve this first; it waits in the inbox."""

    code = "FL-530"
    title = "the request waits for a person at the site"


class Denied(GateRefused):
    """A person at the site said no."""

    code = "FL-531"
    title = "denied by the site"


class Paused(GateRefused):
    """The site has paused: nothing is answered until somebody resumes it."""

    code = "FL-532"
    title = "the site has paused"


class OutsideHours(GateRefused):
    """The site's policy answers at other hours."""

    code = "FL-533"
    title = "outside the site's hours"


class NothingOfThatName(GateRefused):
    """The inbox holds no such item, or there is no such approval."""

    code = "FL-534"
    title = "nothing of that name to decide"


class InboxDamaged(GateRefused):
    """The record of requests and decisions cannot be read or written; nothing passes until it is mended."""

    code = "FL-535"
    title = "the site's inbox cannot be used"


class NotEnrolled(GateRefused):
    """The site has no certificate, so other hospitals could not tell its keys from somebody else's."""

    code = "FL-536"
    title = "the site has no certificate"


class PeerUnproven(GateRefused):
    """Keys of a secure sum are not shown to be the hospital's whose they should be."""

    code = "FL-537"
    title = "another site's keys are not shown to be its own"


class PeerChanged(GateRefused):
    """A hospital comes with another key than the one it was known by."""

    code = "FL-538"
    title = "another site has a key that is not known here"


class CoordinatorsDamaged(GateRefused):
    """A record of a trusted coordinator is not what its name says; nobody is trusted until it is mended."""

    code = "FL-540"
    title = "the site's record of trusted coordinators is damaged"


class NotSealed(GateRefused):
    """A validate-only site is asked before it was shown what is frozen."""

    code = "FL-542"
    title = "the run was not sealed before this site was opened"


class NotExternal(GateRefused):
    """This site's patients already gave something to what is to be tested on them."""

    code = "FL-543"
    title = "the site took part in what it is to validate"


class SealRefused(GateRefused):
    """The seal is not one, not its coordinator's, or of another study or run."""

    code = "FL-544"
    title = "the seal does not stand for the approved study"


class SealChanged(GateRefused):
    """The run comes with another seal than the one that this site keeps."""

    code = "FL-545"
    title = "the run was sealed otherwise before"


class NotAsSealed(GateRefused):
    """What is sent is not what was sealed before this site was opened."""

    code = "FL-546"
    title = "the request differs from what was sealed"


class SealDamaged(GateRefused):
    """The seal that this site keeps of a run cannot be read."""

    code = "FL-547"
    title = "the site's copy of a seal is damaged"


class GateFault(GateRefused):
    """Something unexpected inside the gate; treated as a refusal."""

    code = "FL-599"
    title = "the site's gate failed and refused"


class PaidAndFailed(GateRefused):
    """A private round was paid for and gave no answer; asking again would pay again, each time."""

    code = "FL-539"
    title = "a round that was paid for gave no answer"
