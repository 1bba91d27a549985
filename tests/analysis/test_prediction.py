"""Cross-validated prediction of volume against loops and numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from histomri.analysis import cross_validated_prediction, fold_range, log10_volume, polynomial
from histomri.analysis.prediction import assign_folds
from histomri.core.errors import InputError


def tumours(rng, n=140):
    d0, size = rng.uniform(0.9, 2.8, n), rng.uniform(10, 38, n)
    return d0, size, 3 + 0.5 * (d0 - 1.8) ** 2 - 0.004 * (size - 28) ** 2 + 0.5 * rng.normal(size=n)


def test_bases():
    x, y = np.array([2.0, 3.0]), np.array([5.0, 7.0])
    printed = np.stack([np.ones(2), y**2, x * y**2, x * y, x**2 * y, x**2, x**3], axis=1)
    np.testing.assert_array_equal(polynomial(x, y, "printed"), printed)
    full = polynomial(x, y, "cubic")
    terms = {(i, j): x**i * y**j for i in range(4) for j in range(4) if i + j <= 3}
    assert full.shape == (2, 10) and {tuple(column) for column in full.T} == {tuple(v) for v in terms.values()}
    with pytest.raises(InputError, match="unknown basis"):
        polynomial(x, y, "quartic")


@pytest.mark.parametrize("basis", ["cubic", "printed"])
def test_predictions_against_a_loop(rng, basis):
    x, y, target = tumours(rng)
    found = cross_validated_prediction(x, y, target, basis=basis, seed=4, n_boot=200)
    terms = polynomial(x, y, basis)
    predicted = np.empty(140)
    for k in range(5):
        test = found.fold == k
        assert test.sum() == 28
        predicted[test] = terms[test] @ np.linalg.lstsq(terms[~test], target[~test], rcond=None)[0]
    np.testing.assert_allclose(found.predicted, predicted, rtol=1e-10)
    truth = stats.pearsonr(predicted, target)
    np.testing.assert_allclose(found.r, truth.statistic, rtol=1e-10)
    by_fold = [stats.pearsonr(predicted[found.fold == k], target[found.fold == k]).statistic for k in range(5)]
    np.testing.assert_allclose(found.fold_r, by_fold, rtol=1e-10)
    assert fold_range(found.fold_r) == pytest.approx((min(by_fold), max(by_fold)))
    coefficients = np.linalg.lstsq(terms, target, rcond=None)[0]
    np.testing.assert_allclose(terms @ found.coefficients["coefficient"], terms @ coefficients, rtol=1e-10)


@pytest.mark.parametrize("grouped", [False, True])
def test_interval_of_r_does_the_whole_cross_validation_again(rng, grouped):
    """Cases or patients drawn one by one; who is drawn twice stays in his fold, and counts twice."""
    x, y, target = tumours(rng, 60)
    patients = np.repeat(np.arange(20), 3) if grouped else np.arange(60)
    n = len(set(patients))
    found = cross_validated_prediction(x, y, target, basis="printed", seed=2, n_boot=100, groups=patients)
    terms = polynomial(x, y, "printed")
    drawn = []
    for chosen in np.random.default_rng(2).integers(0, n, size=(100, n)):
        some = np.concatenate([np.flatnonzero(patients == name) for name in chosen])
        predicted = np.empty(some.size)
        for k in range(5):
            test, other = found.fold[some] == k, some[found.fold[some] != k]
            predicted[test] = terms[some[test]] @ np.linalg.lstsq(terms[other], target[other], rcond=None)[0]
        drawn.append(np.arctanh(np.corrcoef(predicted, target[some])[0, 1]))
    z, scatter = np.arctanh(found.r), np.std(drawn, ddof=1)
    reach = stats.t.ppf(0.975, n - 1) * scatter
    np.testing.assert_allclose(found.ci, np.tanh([z - reach, z + reach]), rtol=1e-10)
    np.testing.assert_allclose(found.p, 2 * stats.t.sf(abs(z) / scatter, n - 1), rtol=1e-10)


@pytest.mark.parametrize("grouped", [False, True])
def test_band_leaves_out_one_case_or_patient_after_another(rng, grouped):
    x, y, target = tumours(rng, 60)
    patients = np.repeat(np.arange(20), 3) if grouped else np.arange(60)
    n = len(set(patients))
    found = cross_validated_prediction(x, y, target, basis="printed", n_boot=100, groups=patients).surface
    grid, terms = polynomial(found["x"], found["y"], "printed"), polynomial(x, y, "printed")
    best = grid @ np.linalg.lstsq(terms, target, rcond=None)[0]
    each = []
    for name in set(patients):
        kept = patients != name
        each.append(grid @ np.linalg.lstsq(terms[kept], target[kept], rcond=None)[0])
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * ((np.array(each) - best) ** 2).sum(axis=0))
    inside = found["inside"].to_numpy()
    np.testing.assert_allclose(found["predicted"], best, rtol=1e-10)
    np.testing.assert_allclose((found["high"] - best)[inside], half[inside], rtol=1e-10)
    np.testing.assert_allclose((best - found["low"])[inside], half[inside], rtol=1e-10)
    assert 0.3 < inside.mean() < 1 and np.ptp(found["x"]) == pytest.approx(np.ptp(x))


def test_the_printed_basis_does_not_depend_on_units(rng):
    x, y, target = tumours(rng)
    one = cross_validated_prediction(x, y, target, basis="printed", n_boot=100)
    other = cross_validated_prediction(x * 1e-9, y * 1e3, target, basis="printed", n_boot=100)
    np.testing.assert_allclose(one.predicted, other.predicted, rtol=1e-10)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 6), min_size=5, max_size=25), st.integers(2, 5), st.integers(0, 99))
def test_folds_keep_groups_together_and_are_even(sizes, folds, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(seed).permutation(groups.size)
    fold = assign_folds(groups[order], folds, seed)
    assert set(fold) == set(range(folds))
    for name in set(groups):
        assert len(set(fold[groups[order] == name])) == 1
    counts = np.bincount(fold)
    assert counts.max() - counts.min() <= max(sizes)
    np.testing.assert_array_equal(fold, assign_folds(groups[order], folds, seed))


def test_groups_and_missing_values(rng):
    x, y, target = tumours(rng)
    patients = np.repeat([f"p{k:02d}" for k in range(35)], 4)
    target[[3, 77]] = np.nan
    found = cross_validated_prediction(x, y, target, groups=patients, n_boot=100)
    assert (found.n, found.n_missing, found.n_groups) == (138, 2, 35)
    assert np.isnan(found.predicted[[3, 77]]).all() and (found.fold[[3, 77]] == -1).all()
    for name in set(patients):
        assert len(set(found.fold[(patients == name) & (found.fold >= 0)])) == 1
    again, other = (cross_validated_prediction(x, y, target, groups=patients, n_boot=100, seed=s) for s in (0, 1))
    assert again.r == found.r != other.r and again.ci == found.ci


def test_nothing_to_predict_gives_no_correlation():
    """Noise predicted from noise: 25 studies, the mean of r must not be above zero by more than 3 standard errors."""
    rng = np.random.default_rng(0)
    r = [cross_validated_prediction(*rng.normal(size=(3, 60)), basis="printed", n_boot=100).r for _ in range(25)]
    assert np.mean(r) < 3 * np.std(r) / np.sqrt(25)


def test_refused(rng):
    x, y, target = tumours(rng, 30)
    with pytest.raises(InputError, match="12 complete cases are too few"):
        cross_validated_prediction(x[:12], y[:12], target[:12])
    with pytest.raises(InputError, match="second metric is constant"):
        cross_validated_prediction(x, np.full(30, 2.0), target)
    with pytest.raises(InputError, match="3 groups of cases cannot be split into 5"):
        cross_validated_prediction(x, y, target, groups=np.arange(30) % 3)
    with pytest.raises(InputError, match=r"cannot determine|one line"):
        cross_validated_prediction(x, 2 * x + 1, target)
    with pytest.raises(InputError, match=r"volume -2 of case 2"):
        log10_volume([3.0, -2.0])
    np.testing.assert_allclose(log10_volume([100.0, np.nan]), [2.0, np.nan])
