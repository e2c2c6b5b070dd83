"""Errors that a test expects, and errors that it causes."""

import re
from contextlib import contextmanager

import pytest


@contextmanager
def refused(match, kind=ValueError):
    """Expects an error that matches a pattern, in one line that contains no phone number."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    assert not re.search(r"\d{7}|\n", str(caught.value))


def raising(error):
    """Returns a function that raises an error, whatever its arguments are."""

    def fail(*_arguments, **_options):
        raise error

    return fail
