"""Published fingerprinting schemes, one a file."""

from whorl.catalog import Catalog
from whorl.schemes.base import Scheme

__all__ = ["SCHEMES", "Scheme"]

SCHEMES: Catalog[Scheme] = Catalog(
    "schemes",
    {
        "adv-tra": "whorl.schemes.adv_tra:AdvTra",
        "akh": "whorl.schemes.akh:AKH",
        "cw-l2": "whorl.schemes.cw_l2:CWL2",
        "fgsm": "whorl.schemes.fgsm:FGSM",
        "igsm": "whorl.schemes.igsm:IGSM",
        "ipguard": "whorl.schemes.ipguard:IPGuard",
        "multipoint": "whorl.schemes.multipoint:Multipoint",
        "random": "whorl.schemes.random:Random",
    },
)
