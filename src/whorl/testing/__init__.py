"""The contracts of schemes, removals, oracles, nets, sources, readers and settings, as checks for plug-in authors.

Each check raises `AssertionError` with one line that names the broken promise. In a plug-in's tests::

    def test_my_scheme():
        check_scheme(MyScheme(strength=2.0))
"""

from whorl.testing.architectures import check_net
from whorl.testing.integrity import check_integrity
from whorl.testing.nets import tiny_data, tiny_net, tiny_pool, tiny_victim
from whorl.testing.oracles import check_oracle
from whorl.testing.readers import check_reader
from whorl.testing.removals import check_removal
from whorl.testing.schemes import check_scheme
from whorl.testing.settings import check_settings
from whorl.testing.sources import check_source

__all__ = [
    "check_integrity",
    "check_net",
    "check_oracle",
    "check_reader",
    "check_removal",
    "check_scheme",
    "check_settings",
    "check_source",
    "tiny_data",
    "tiny_net",
    "tiny_pool",
    "tiny_victim",
]
