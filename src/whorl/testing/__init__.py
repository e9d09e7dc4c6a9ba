"""The contracts of a scheme, a removal and an oracle, as checks that plug-in authors run on their own.

Each check raises `AssertionError` with one line that names the broken promise. In a plug-in's tests::

    def test_my_scheme():
        check_scheme(MyScheme(strength=2.0))
"""

from whorl.testing.nets import tiny_data, tiny_net, tiny_pool, tiny_victim
from whorl.testing.oracles import check_oracle
from whorl.testing.removals import check_removal
from whorl.testing.schemes import check_scheme

__all__ = ["check_oracle", "check_removal", "check_scheme", "tiny_data", "tiny_net", "tiny_pool", "tiny_victim"]
