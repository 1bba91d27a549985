"""The in-silico study: scores and claims against numbers made otherwise, and the same bytes however it was run."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from histomri.fitting import PAPER_NAMES, fit
from histomri.simulation.insilico.adc_time import adc_over_time
from histomri.simulation.insilico.checks import check_walkers
from histomri.simulation.insilico.claims import STATEMENTS, judge_claims
from histomri.simulation.insilico.design import PRESETS, Design, Scan, read_scans
from histomri.simulation.insilico.fits import Fitting, fit_walked
from histomri.simulation.insilico.scores import Score, score_estimates, tables
from histomri.simulation.insilico.study import run_insilico
from histomri.simulation.insilico.walks import Walked, Walking, _key, walk_design
from histomri.simulation.options import InsilicoOptions

SETTING = {"protocol": "mouse-exvivo", "kappa_um_s": 10.0, "snr": 30.0}


# ---------------------------------------------------------------- scores


def estimates_of(rng, tissues, models=("diff-in", "diff-in-ex", "diff-in-extd")):
    """Truth and made-up estimates of some models, each with its own bias and scatter."""
    truth = pd.DataFrame({"vCS_um": rng.choice([8.0, 16.0, 30.0], tissues), "F": rng.choice([0.2, 0.4, 0.5], tissues)})
    parts = []
    for place, model in enumerate(models):
        noise = rng.standard_normal((3, tissues))
        about = {"strategy": "high-b", "model": model, "tissue": np.arange(tissues), **SETTING}
        guess = {
            "vCS_mri_um": truth["vCS_um"] + 2.0 * place + (3.0 + place) * noise[0],
            "F_mri": truth["F"] + 0.1 * noise[1],
            "BIC": noise[2] + place,
        }
        parts.append(truth.assign(**about, **guess))
    return pd.concat(parts, ignore_index=True)


def test_scores_are_those_of_scipy_and_of_their_formulas(rng):
    table = estimates_of(rng, 40)
    scores = score_estimates(table)
    assert [score.model for score in scores] == ["diff-in", "diff-in-ex", "diff-in-extd"]
    parts = {model: part.reset_index(drop=True) for model, part in table.groupby("model")}
    hfc = {
        model: (part["vCS_mri_um"] / part["vCS_um"] - 1).abs() + (part["F_mri"] / part["F"] - 1).abs()
        for model, part in parts.items()
    }
    for score in scores:
        part, row = parts[score.model], score.row
        r = [stats.pearsonr(part[a], part[b])[0] for a, b in (("vCS_mri_um", "vCS_um"), ("F_mri", "F"))]
        assert row["TCS"] == pytest.approx(sum(r), abs=1e-12) and row["r_F"] == pytest.approx(r[1], abs=1e-12)
        assert row["HFC"] == pytest.approx(hfc[score.model].mean(), abs=1e-12)
        assert row["bias_vCS_um"] == pytest.approx((part["vCS_mri_um"] - part["vCS_um"]).mean(), abs=1e-12)
        wins = sum(min(hfc, key=lambda model, i=i: hfc[model][i]) == score.model for i in range(40))
        assert row["HFC_wins"] == pytest.approx(wins / 40, abs=1e-12)
        low, high = proportion_confint(wins, 40, method="wilson")
        np.testing.assert_allclose([row["HFC_wins_low"], row["HFC_wins_high"]], [low, high], atol=1e-6)


def test_intervals_are_those_of_scipys_bootstrap(rng):
    table = estimates_of(rng, 60)
    (score,) = score_estimates(table[table["model"] == "diff-in"])
    part = table[table["model"] == "diff-in"]

    def tcs(size, true_size, fraction, true_fraction):
        return np.corrcoef(size, true_size)[0, 1] + np.corrcoef(fraction, true_fraction)[0, 1]

    found = stats.bootstrap(
        [part[name].to_numpy() for name in ("vCS_mri_um", "vCS_um", "F_mri", "F")], tcs, paired=True, vectorized=False,
        n_resamples=4000, method="percentile", rng=rng,
    ).confidence_interval  # fmt: skip
    # An end of 1000 resamples scatters by about a twentieth of the width.
    width = found.high - found.low
    np.testing.assert_allclose([score.row["TCS_low"], score.row["TCS_high"]], found, atol=0.12 * width)


def test_a_tissue_that_one_model_could_not_be_fitted_to_counts_for_none(rng):
    table = estimates_of(rng, 40)
    table.loc[(table["model"] == "diff-in-ex") & (table["tissue"] < 3), "BIC"] = np.nan
    rest = table[table["tissue"] >= 3]
    for some, all_ in zip(score_estimates(rest), score_estimates(table)):
        assert some.row == all_.row and all_.row["n"] == 37


def test_of_models_that_fit_alike_the_first_wins(rng):
    table = estimates_of(rng, 30, ("diff-in-ex", "diff-in-extd"))
    columns = ["vCS_mri_um", "F_mri", "BIC"]
    same = table["model"] == "diff-in-extd"
    table.loc[same, columns] = table.loc[~same, columns].to_numpy()
    first, second = score_estimates(table)
    assert (first.row["HFC_wins"], first.row["BIC_wins"]) == (1.0, 1.0)
    assert (second.row["HFC_wins"], second.row["BIC_wins"]) == (0.0, 0.0)


def test_the_scores_of_other_walks_fits_and_noise(data):
    """144 tissues at κ 10 µm/s, walked by another program; its scores are those of three draws of the noise."""
    folder = data / "science" / "insilico_k10_mouse"
    tissues, expected = pd.read_csv(folder / "truth.csv"), pd.read_csv(folder / "expected_scores_SNR30.csv")
    signals = np.load(folder / "signals_mouse-exvivo.npy", allow_pickle=False).astype(float)
    draws = 12
    copies = pd.concat([tissues] * draws, ignore_index=True)
    shape = (1, draws * len(tissues), signals.shape[1])
    walked = Walked(
        Scan.read("mouse-exvivo", None), copies, np.tile(signals, (draws, 1)).reshape(shape), np.zeros(shape),
        np.ones(shape[:2]),
    )  # fmt: skip
    table = fit_walked([walked], (10.0,), Fitting(PAPER_NAMES, ("high-b", "whole"), (30.0,)))
    found = pd.DataFrame([{"strategy": one.strategy, "model": one.model, **one.row} for one in score_estimates(table)])
    both = expected.merge(found, on=["strategy", "model"], suffixes=("_other", ""), validate="one_to_one")
    both = both.rename(columns={"bias_vCS": "bias_vCS_um_other"})
    # Three standard deviations of what three other draws of the noise give: those of 24 seeds, the largest of all fits.
    spread = {"TCS": 0.057, "r_vCS": 0.033, "HFC": 0.045, "BIC_wins": 0.012, "bias_vCS_um": 0.46, "bias_F": 0.011}
    for name, deviation in spread.items():
        np.testing.assert_allclose(both[name], both[f"{name}_other"], atol=3 * deviation, err_msg=name)
    # The two with a free extra-cellular diffusivity are last on high b; noise alone changes the order of the others.
    high_b = both[both["strategy"] == "high-b"].set_index("model")
    for name in ("TCS", "TCS_other"):
        assert high_b[name].sort_values().index[:2].tolist() == ["diff-in-extd", "diff-in-ex"]
    # The paper's claims as the other programs found them on this case: BIC prefers Diff-in, HFC does not.
    verdicts = {claim.claim: claim.verdict for claim in judge_claims(score_estimates(table))}
    assert [verdicts[name] for name in ("bic_high_b", "bic_whole", "hfc_high_b")] == ["holds"] * 3
    assert verdicts["tcs_falls"] == verdicts["lead_falls"] == "not tested"


# ---------------------------------------------------------------- claims


def made_up(rng, tcs, *, kappa=10.0, spread=0.02, wins=None, n=400, strategy="high-b", hfc=None):
    """Scores of models with known TCS, whose resamples scatter around it independently."""
    names = PAPER_NAMES[: len(tcs)]
    wins = wins if wins is not None else [1.0 / len(tcs)] * len(tcs)
    hfc = hfc if hfc is not None else [1.0] * len(tcs)
    return [
        Score(
            ("mine", kappa, 30.0), strategy, name,
            {"TCS": value, "HFC": far, "HFC_wins": 0.1, "BIC_wins": share, "n": n},
            value + spread * rng.standard_normal(500), far + spread * rng.standard_normal(500),
        )
        for name, value, share, far in zip(names, tcs, wins, hfc)
    ]  # fmt: skip


def verdicts(scores):
    return {claim.claim: claim.verdict for claim in judge_claims(scores)}


def test_a_lead_beyond_the_scatter_holds_and_a_gap_does_not(rng):
    clear = made_up(rng, [1.2, 1.0, 0.9])
    assert verdicts(clear)["tcs_high_b"] == "holds"
    assert verdicts(made_up(rng, [1.0, 1.2, 0.9]))["tcs_high_b"] == "does not hold"
    assert verdicts(made_up(rng, [1.0, 0.99, 0.9]))["tcs_high_b"] == "undecided"
    # A rival on the whole set counts among all fits, not among those on high b.
    rival = made_up(rng, [1.0, 1.5], strategy="whole")
    assert verdicts(clear + rival)["tcs_high_b"] == "holds" and verdicts(clear + rival)["tcs_all"] == "does not hold"
    (claim,) = (one for one in judge_claims(clear) if one.claim == "tcs_high_b")
    assert claim.evidence.startswith("TCS 1.20; Diff-in-ex 1.00; difference 0.20 [0.1")
    # The scatter of a difference of two is 0.02 √2, and 1.96 of it reach to either side.
    assert claim.low == pytest.approx(0.2 - 1.96 * 0.0283, abs=0.012) and claim.difference == pytest.approx(0.2)


def test_leads_and_scores_that_fall_with_permeability(rng):
    first, last = made_up(rng, [1.2, 1.0, 0.9]), made_up(rng, [0.8, 0.79, 0.7], kappa=50.0)
    found = verdicts(first + last)
    assert found["lead_falls"] == "holds" and found["tcs_falls"] == "holds"
    assert verdicts(made_up(rng, [1.2, 1.19]) + made_up(rng, [1.2, 0.9], kappa=50.0))["lead_falls"] == "does not hold"
    assert verdicts(first + made_up(rng, [1.4, 1.2], kappa=50.0))["tcs_falls"] == "does not hold"


def test_bic_and_hfc(rng):
    scores = made_up(rng, [1, 1, 1], wins=[0.7, 0.2, 0.1], hfc=[1.3, 0.9, 1.4])
    found = verdicts(scores)
    assert (found["bic_high_b"], found["hfc_high_b"], found["bic_whole"]) == ("holds", "holds", "not tested")
    scores = made_up(rng, [1, 1, 1], wins=[0.3, 0.6, 0.1], hfc=[0.7, 0.9, 1.4])
    found = verdicts(scores)
    assert (found["bic_high_b"], found["hfc_high_b"]) == ("does not hold", "does not hold")
    scores = made_up(rng, [1, 1, 1], wins=[0.46, 0.44, 0.1], hfc=[0.91, 0.9, 1.4])
    assert (verdicts(scores)["bic_high_b"], verdicts(scores)["hfc_high_b"]) == ("undecided", "undecided")


def test_what_was_not_asked_for_is_not_tested(rng):
    for scores, reason in (
        (made_up(rng, [1.0, 0.9], kappa=25.0), "Not tested: the study has no"),
        (made_up(rng, [1.0]), "Not tested: the study has no other fit to compare with."),
        (made_up(rng, [1.0, 0.9])[1:], "Not tested: the study has no Diff-in on high b."),
    ):
        claims = judge_claims(scores)
        assert {claim.verdict for claim in claims} == {"not tested"} and len(claims) == len(STATEMENTS)
        assert claims[0].evidence.startswith(reason) and np.isnan(claims[0].difference)


def test_verdicts_on_equal_models_are_seldom_wrong(rng):
    """Five models that are equally good, and BIC that prefers none: every verdict but undecided is an error."""
    errors = {"holds": 0, "does not hold": 0}
    bic = dict(errors)
    for _ in range(600):
        true = 1.0 + 0.02 * rng.standard_normal(5)  # as found in a study whose models all have a TCS of 1
        wins = rng.multinomial(144, [0.4, 0.4, 0.2]) / 144
        found, shares = verdicts(made_up(rng, true)), verdicts(made_up(rng, [1, 1, 1], wins=wins, n=144))
        for verdict in errors:
            errors[verdict] += found["tcs_high_b"] == verdict
            bic[verdict] += shares["bic_high_b"] == verdict
    # At most 2.5 % of 600; 28 are three standard deviations of a binomial count above it.
    assert max(*errors.values(), *bic.values()) <= 28


# ---------------------------------------------------------------- the study as a whole

SMALL = {
    "protocols": ("mouse-exvivo",), "walkers": 300, "fractions": (0.2, 0.45), "diameters_um": (10.0, 24.0),
    "diffusivities": 2, "kappa": (10.0, 50.0), "models": ("diff-in", "diff-in-ex"), "seed": 4,
}  # fmt: skip


def bytes_of(folder):
    """Return the content of every file but the record, which has the time in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "insilico.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class _StopError(Exception):
    pass


def test_a_study_that_was_stopped_goes_on_to_the_same_bytes(tmp_path):
    def stop(fraction):
        if fraction > 0.4:
            raise _StopError

    whole = run_insilico(InsilicoOptions(**SMALL, jobs=1), tmp_path / "whole")
    with pytest.raises(_StopError):
        run_insilico(InsilicoOptions(**SMALL, jobs=2), tmp_path / "parts", stop)
    blocks = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("block_*.npz")}
    assert 0 < len(blocks) < 8
    run_insilico(InsilicoOptions(**SMALL, jobs=2), tmp_path / "parts")
    # Blocks were not walked again, and neither the stop nor the number of threads shows in any file.
    assert all(path.stat().st_mtime_ns == time for path, time in blocks.items())
    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
    assert {"tableS1.csv", "tableS2.csv", "tableS3.csv", "claims.csv", "estimates.parquet"} <= set(
        bytes_of(whole.folder)
    )


def test_saved_signals_are_those_that_were_fitted(tmp_path):
    study = run_insilico(InsilicoOptions(**SMALL, snr=(1e6,), jobs=1), tmp_path)
    rows = pd.read_csv(tmp_path / "tissues_mouse-exvivo.csv")
    signals = np.load(tmp_path / "signals_mouse-exvivo.npy", allow_pickle=False)
    assert signals.shape == (len(rows), 50) and len(rows) == 2 * 16
    for kappa, tissue in product((0, 1), (0, 5, 15)):
        row = 16 * kappa + tissue
        np.testing.assert_array_equal(signals[row], study.walked[0].signals[kappa, tissue])
        truth = study.walked[0].tissues.iloc[tissue]
        assert rows.loc[row, "vCS_um"] == truth["vCS_um"] and rows.loc[row, "kappa_um_s"] == (10.0, 50.0)[kappa]
    # The fit of one row alone, almost without noise, is that of the study.
    alone = fit(signals[[20]], "mouse-exvivo", "diff-in", sigma=1e-6, strategy="whole", s0=1.0)
    table = study.estimates
    mine = table[(table["kappa_um_s"] == 50.0) & (table["tissue"] == 4) & (table["model"] == "diff-in")]
    found = mine[mine["strategy"] == "whole"]["vCS_mri_um"].item()
    assert found == pytest.approx(float(alone.maps["vCS"][0]), rel=2e-3)


def test_adc_of_closed_spheres_is_the_formulas_and_exchange_raises_it(tmp_path):
    design = Design((0.2, 0.4), (8.0, 16.0, 24.0), (0.0, 20.0, 60.0), 2)
    bounds = ((0.8, 2.6), (0.8, 2.6))
    adc = adc_over_time(design, bounds, tmp_path, Walking(walkers=3000, seed=2), jobs=1)
    closed = adc[(adc["varies"] == "permeability") & (adc["kappa_um_s"] == 0)]
    # Four standard errors; the Gaussian phase approximation is right to 1 % at this b.
    gap = (closed["ADC_um2_ms"] - closed["ADC_sphere_um2_ms"]).abs()
    assert (gap < 4 * closed["ADC_se_um2_ms"] + 0.01 * closed["ADC_sphere_um2_ms"]).all()
    last = adc[(adc["varies"] == "permeability") & (adc["Delta_ms"] == 80)].sort_values("kappa_um_s")
    rise, error = last["ADC_um2_ms"].diff().dropna(), last["ADC_se_um2_ms"].max()
    assert (rise > 4 * error).all()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    pd.testing.assert_frame_equal(adc_over_time(design, bounds, tmp_path, Walking(walkers=3000, seed=2)), adc)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_the_pilot_foretells_the_standard_errors(tmp_path):
    design, scans = Design((0.2, 0.5), (8.0, 24.0), (10.0, 50.0), 2), read_scans(["mouse-exvivo"], None)
    walking = Walking(walkers=4000, seed=6)
    expected = check_walkers(design, scans, walking, wanted=1.0)
    (walked,) = walk_design(design, scans, tmp_path, walking)
    assert walked.standard_error.max() == pytest.approx(expected, rel=0.2)


def test_the_paper_preset_has_the_key_of_its_finished_walks():
    """Hours of walks made with 0.2 are taken up by their key: whoever changes it walks again."""
    assert _key(PRESETS["paper"], list(read_scans(["mouse-exvivo"], None)), Walking()).startswith("389c538f1632")


def test_files_named_in_the_record_carry_no_folder(tmp_path):
    protocol = tmp_path / "mine.txt"
    protocol.write_text("0 500 1500 2000 2500 2800\n0 10 10 10 10 10\n0 30 30 30 30 30\n")
    run_insilico(InsilicoOptions(**{**SMALL, "protocols": (Path(protocol),)}, jobs=1), tmp_path / "out")
    assert str(tmp_path) not in (tmp_path / "out" / "insilico.json").read_text()
    table = tables(score_estimates(pd.read_parquet(tmp_path / "out" / "estimates.parquet"), seed=4))["tableS1"]
    assert set(table["protocol"]) == {"mine"}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "tableS1.csv"), table, rtol=1e-5, check_dtype=False)
