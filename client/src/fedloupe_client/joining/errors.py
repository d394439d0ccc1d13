"""What can go wrong while a hospital joins a federation, one class each."""

from fedloupe.errors import FedLoupeError


class KeysAbsent(FedLoupeError):
    """There are no keys here to which a kit could belong."""

    code = "FL-645"
    title = "the site's own keys are not there"


class KitStale(FedLoupeError):
    """The kit is older than the one that is installed."""

    code = "FL-646"
    title = "the kit is older than the installed one"


class CoordinatorNotCompared(FedLoupeError):
    """Nobody has compared the coordinator's key by telephone yet."""

    code = "FL-647"
    title = "the coordinator's key was not compared"


class CoordinatorDiffers(FedLoupeError):
    """The kit was signed by another key than the coordinator told on the telephone."""

    code = "FL-648"
    title = "the kit is not the coordinator's"


class KitNotOurs(FedLoupeError):
    """The kit is for another site, or for other keys than this site's."""

    code = "FL-649"
    title = "the kit is not for this site"


class KitNotInstalled(FedLoupeError):
    """The kit cannot be put in place, or what is in place is damaged."""

    code = "FL-658"
    title = "the kit cannot be installed"


class CourierNotJoined(FedLoupeError):
    """The courier's folder lacks what `fedloupe-site join` puts there."""

    code = "FL-678"
    title = "the courier's folder holds no kit"


class FlowerNotInstalled(FedLoupeError):
    """A courier was to be started where Flower is not installed."""

    code = "FL-679"
    title = "Flower is not installed here"


class SiteNameRefused(FedLoupeError):
    """This home is another site's, or the name is none."""

    code = "FL-659"
    title = "the site's name is not right"
