import pytest
import torch

from whorl.detection import matching
from whorl.errors import UsageError


def test_matching_is_one_minus_hamming():
    evidence = matching(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 0, 3, 9]))
    assert evidence.similarity == 0.5
    assert evidence.per_query.tolist() == [1, 0, 1, 0]
    assert evidence.per_query.dtype == torch.float32


@pytest.mark.parametrize(("one", "other"), [((3,), (4,)), ((0,), (0,)), ((3, 2), (3, 2))])
def test_lists_that_cannot_be_compared(one, other):
    with pytest.raises(UsageError, match="two equally long lists of labels"):
        matching(torch.zeros(one), torch.zeros(other))
