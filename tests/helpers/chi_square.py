"""A chi-square test of draws against the probabilities that they should have."""

import numpy as np
import scipy.stats


def p_value(counts, probabilities):
    """The rarest outcomes are pooled until each cell expects at least 5 draws."""
    n = counts.sum()
    observed, expected = [0.0], [0.0]
    for k in np.argsort(probabilities):
        if expected[-1] >= 5:
            observed.append(0.0)
            expected.append(0.0)
        observed[-1] += counts[k]
        expected[-1] += probabilities[k] * n
    if expected[-1] < 5:
        observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
    assert len(expected) > 1
    return scipy.stats.chisquare(observed, expected).pvalue
