"""A feed has the vectors of some calls, and refuses other calls."""

import numpy as np
import pytest

from callsieve.training.data.feeds import Feed

ROWS = np.array([2, 5, 9])
FEED = Feed("complete", np.arange(12), ROWS, np.column_stack([ROWS * 1.0, ROWS * 10.0]))


def test_vectors_belong_to_the_requested_calls():
    assert FEED.at(np.array([9, 2])).tolist() == [[9.0, 90.0], [2.0, 20.0]]
    assert FEED.values(np.array([5]), 1).tolist() == [50.0]
    assert FEED.at(np.array([], dtype=int)).shape == (0, 2)


@pytest.mark.parametrize("row", [0, 3, 10])
def test_a_call_without_a_vector_is_refused(row):
    with pytest.raises(ValueError, match="expected calls whose vectors are held"):
        FEED.at(np.array([2, row]))


def test_a_column_is_missing_for_calls_without_a_vector():
    column = FEED.column(1, 12)
    assert column[ROWS].tolist() == [20.0, 50.0, 90.0]
    assert np.isnan(np.delete(column, ROWS)).all()
