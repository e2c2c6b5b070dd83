"""Carries out planned erasures of files, as a command does."""

from callsieve.training.oversight.privacy.rewriting import carry_out, planned


def carried_out(plans):
    """Carries out a plan; returns the summaries by name."""
    with planned(iter(plans)) as erasures:
        carry_out(erasures)
    return {erasure.name: erasure.summary for erasure in erasures}
