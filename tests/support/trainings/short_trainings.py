"""Shorter trainings for tests that look at neither pictures nor regressions, which are most of a short training."""

import numpy as np

from callsieve.training import preflight
from callsieve.training.judging import baselines
from callsieve.training.reports import pictures


def shorten(patched):
    """Leaves pictures blank, counts complaints in place of the regressions of the baselines, and needs few groups."""
    patched.setattr(preflight, "NUISANCE_GROUPS", 2)
    leave_blank(patched)
    patched.setattr(baselines, "regression_scores", count_complaints)


def leave_blank(patched):
    """Leaves the pictures of runs and of their pages blank."""
    patched.setattr(pictures, "svg", lambda _figure: "<svg></svg>")


def count_complaints(t, _features, unseen):
    """Returns the complaints about the callers of the unseen calls, in place of a regression's scores."""
    scores = np.full(len(t.pool.start), np.nan)
    scores[unseen] = t.pool.complaints[unseen]
    return scores
