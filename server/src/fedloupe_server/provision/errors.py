"""What can go wrong while a federation is founded and hospitals are enrolled, one class each."""

from fedloupe.errors import FedLoupeError


class FederationUnusable(FedLoupeError):
    """The folder holds no federation, or a file of it was damaged or changed by hand."""

    code = "FL-750"
    title = "the federation folder cannot be used"


class AddressInvalid(FedLoupeError):
    """The address is not `host:port` as couriers can dial it."""

    code = "FL-751"
    title = "the coordinator's address is not valid"


class NotInStudy(FedLoupeError):
    """The study names no such site."""

    code = "FL-752"
    title = "the study names no such site"


class OtherKeyEnrolled(FedLoupeError):
    """The site is enrolled already, with other keys."""

    code = "FL-753"
    title = "the site is enrolled with other keys"


class KeyRevoked(FedLoupeError):
    """The request brings a key that was revoked, or that is another site's."""

    code = "FL-754"
    title = "a key of the request may not be enrolled"


class NotEnrolled(FedLoupeError):
    """The site was never enrolled, or is revoked already."""

    code = "FL-755"
    title = "the site is not enrolled"


class RequestNotTheirs(FedLoupeError):
    """The request's key is not the one that the hospital told on the telephone."""

    code = "FL-756"
    title = "the request's key is not the one that was told"


class KeyUnheard(FedLoupeError):
    """A key that no kit was made for yet, and nobody says that the hospital read its fingerprint out."""

    code = "FL-759"
    title = "the request's key was not compared"


class KeySpent(FedLoupeError):
    """The request brings a key that a newer one replaced, or a courier's key whose certificate ended."""

    code = "FL-758"
    title = "a key of the request had its time"


class FederationNotWritten(FedLoupeError):
    """A file of the federation cannot be written; what stood there stands."""

    code = "FL-757"
    title = "the federation folder cannot be written"
