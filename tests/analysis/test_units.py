"""Sites that write other units, found by comparing them, and sites that truly differ, left alone."""

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import read_measurements
from histomri.analysis.units import check_sites
from histomri.core.errors import UnitError

SITES = pd.Series(["1.5T", "3T"] * 15)
GROUPS = pd.Series(["a", "b", "c"] * 10)


def check(values, name="volume_mm3", scanner=SITES, group=GROUPS):
    labels = {"scanner": scanner} | ({} if group is None else {"group": group})
    return check_sites(pd.DataFrame({name: values}), labels, "t.csv")


@pytest.mark.parametrize("factor", [1e-9, 1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize(("name", "spread"), [("CD_mri_mm3", 0.3), ("volume_mm3", 2.0)])
def test_a_site_with_another_unit_is_an_error(rng, factor, name, spread):
    values = pd.Series(1e4 * np.exp(spread * rng.normal(size=30)))
    assert check(values, name) == []
    other = values.where(SITES == "1.5T", factor * values)
    with pytest.raises(UnitError, match=f"t.csv: the median of '{name}' is .* for scanner .*as if in another unit"):
        check(other, name)


@pytest.mark.parametrize("factor", [0.1, 10, 100])
def test_other_factors_are_warned_of(rng, factor):
    values = pd.Series(rng.uniform(15, 25, 30))
    (text,) = check(values.where(SITES == "1.5T", factor * values), "vCS_mri_um")
    one, other = (np.median(values[name == SITES]) for name in ("1.5T", "3T"))
    shown = sorted([(one, "1.5T"), (factor * other, "3T")])
    assert text.startswith(
        f"the median of 'vCS_mri_um' is {shown[0][0]:.3g} for scanner '{shown[0][1]}' and {shown[1][0]:.3g} for "
        f"'{shown[1][1]}', a factor of {shown[1][0] / shown[0][0]:.3g}"
    )


def test_what_may_truly_differ_is_no_error(rng):
    """Mice and patients on two scanners have tumours of other sizes; and so may groups."""
    values = pd.Series(100 * np.exp(0.5 * rng.normal(size=30))).where(SITES == "1.5T", lambda mice: 1000 * mice)
    species = SITES.map({"1.5T": "mouse", "3T": "patient"})
    assert len(check(values, group=species)) == 1
    assert len(check(values, scanner=GROUPS.map(str.upper), group=species)) == 1
    with pytest.raises(UnitError, match="name the groups in the column 'group'"):
        check(values, group=None)
    with pytest.raises(UnitError):  # no tissue has 1000 times the cells of another
        check(values, "CD_mri_mm3", group=species)


def test_no_false_alarms(rng):
    far = SITES == "3T"
    for values in (
        rng.normal(size=30),  # signed
        np.where(rng.random(30) < 0.3, 0.0, rng.uniform(0, 0.4, 30)) * np.where(far, 1, 30),  # many zeros
        np.where(far, 0.3, 0.05) * rng.uniform(0.5, 1.5, 30),  # six times the Ki-67
        np.exp(3 * rng.normal(size=30)) * np.where(far, 1, 10),  # so wide that the sites overlap
        np.full(30, np.nan),
        np.zeros(30),
    ):
        assert check(pd.Series(values)) == []
    two = pd.Series([1.0, 1.0, *[1e3] * 28])
    assert check(two, scanner=pd.Series(["x", "x", *["y"] * 28]), group=None) == []  # two values are too few
    assert check(two.where(two < 2), scanner=SITES.where(SITES == "3T", "")) == []


def test_false_alarms_are_rare_in_heavy_tails(rng):
    """Volumes over four decades, six samples per site: fewer than 5 of 100 studies are warned of, none refused."""
    scanner = pd.Series(["x", "y"] * 6)
    told = [check(pd.Series(10 ** rng.normal(size=12)), scanner=scanner, group=None) for _ in range(300)]
    assert sum(map(bool, told)) < 15


@pytest.mark.parametrize(("name", "value"), [("CD_mri_mm3", 1e40), ("CD_mri_mm3", 1e14), ("CD_histo_mm2", 3e9)])
def test_a_density_that_cannot_be(tmp_path, rng, name, value):
    table = pd.DataFrame({"sample": list("abcde"), name: rng.uniform(2e3, 3e3, 5)})
    table.loc[3, name] = value
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UnitError, match=f"column '{name}', line 5: .* cannot be cells/mm"):
        read_measurements(tmp_path / "t.csv").numbers([name])


@pytest.mark.parametrize("name", ["vCS_histo_um_se", "vCS_histo_um_syst", "registration_sd_F_histo"])
def test_errors_may_be_of_any_size(rng, name):
    values = pd.Series(rng.uniform(1, 2, 30)).where(SITES == "1.5T", lambda small: 20 * small)
    assert len(check(values)) == 1 and check(values, name) == []
