"""Repeatability against definitions written out, a published relation of its intervals, and known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from histomri.analysis import repeatability
from histomri.core.errors import InputError


def test_of_pairs_by_hand():
    """Two measurements each: wSD² is the mean of half the squared differences."""
    first, second = np.array([10.0, 20, 15, 30, 12]), np.array([12.0, 21, 15, 27, 13])
    found = repeatability(np.r_[first, second, 99.0], [*"abcde", *"abcde", "f"])
    wsd = math.sqrt(np.mean((first - second) ** 2 / 2))
    wcv = 100 * math.sqrt(np.mean((first - second) ** 2 / 2 / ((first + second) / 2) ** 2))
    assert (found.wsd, found.wcv) == pytest.approx((wsd, wcv), rel=1e-12)
    assert (found.rc, found.rc_percent) == pytest.approx((2.7718 * wsd, 2.7718 * wcv), rel=1e-5)
    assert (found.n_subjects, found.n, found.n_alone, found.df) == (5, 10, 1, 5)
    limits = [found.rc * math.sqrt(5 / stats.chi2.ppf(q, 5)) for q in (0.975, 0.025)]
    assert (found.rc_low, found.rc_high) == pytest.approx(limits, rel=1e-10)
    assert found.wcv_high / found.wcv == pytest.approx(found.wsd_high / found.wsd, rel=1e-12)


def test_unequal_numbers_are_those_of_a_one_way_analysis(rng):
    subjects = np.repeat(np.arange(8), [2, 3, 2, 4, 5, 2, 2, 3])
    values = rng.normal(20, 3, 8)[subjects] + rng.normal(size=subjects.size)
    groups = [values[subjects == k] for k in range(8)]
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (values.size - 8)
    found = repeatability(values, subjects)
    assert found.wsd**2 == pytest.approx(within, rel=1e-10) and found.df == values.size - 8


def test_the_interval_holds_the_truth():
    """400 tables of 12 subjects measured twice, wSD 0.7: coverage within three standard errors (1.1 %) of 95 %."""
    rng, held = np.random.default_rng(2), 0
    subjects = np.repeat(np.arange(12), 2)
    for _ in range(400):
        found = repeatability(rng.normal(20, 3, 12)[subjects] + rng.normal(0, 0.7, 24), subjects)
        held += found.rc_low <= 0.7 * 2.7718 <= found.rc_high
    assert 0.917 <= held / 400 <= 0.983


def test_refusals_and_notes(rng):
    with pytest.raises(InputError, match="1 subjects have two measurements"):
        repeatability([1, 2, 3], ["a", "a", "b"])
    with pytest.raises(InputError, match="never differ; are they copies"):
        repeatability([1, 1, 3, 3], ["a", "a", "b", "b"])
    found = repeatability([-1, 2, 3, 4], ["a", "a", "b", "b"])
    assert math.isfinite(found.wcv)
    found = repeatability([-3, 2, 3, 4], ["a", "a", "b", "b"])
    assert math.isnan(found.wcv) and "not positive" in found.note
    truth = np.repeat(np.geomspace(1, 50, 20), 2)
    found = repeatability(truth + np.tile([0.05, -0.05], 20) * truth, np.repeat(np.arange(20), 2))
    assert "wcv describes it better" in found.note and found.wcv == pytest.approx(100 * 0.05 * math.sqrt(2), rel=1e-9)
