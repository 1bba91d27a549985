"""The prediction of a run is that of the command, of the rows and with the groups that the study names."""

import json

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import PredictOptions, cross_validated_prediction, predict_table
from histomri.analysis.prediction_tables import FILES
from histomri.core.errors import InputError
from histomri.core.files import write_json
from histomri.study.steps import predict


@pytest.fixture
def table(rng):
    d0i, size = rng.uniform(1, 2.8, 36), rng.uniform(12, 34, 36)
    volume = 10 ** (4 - (d0i - 1.8) ** 2 + 0.05 * size + 0.3 * rng.normal(size=36))
    cases = pd.DataFrame({"sample": [f"t{case}" for case in range(36)], "D0I_mri_um2_ms": d0i, "vCS_mri_um": size})
    return cases.assign(volume_mm3=volume, patient=np.arange(36) // 3)


def predicted(out, table=None, **options):
    """Predict as a study does, from a table of its own or from its samples."""
    own = {"table": out / "pairs.csv", "ranking": out / "scores.json"} if table is None else {"table": table}
    wanted = PredictOptions(target="volume_mm3", folder_each=True, **own, **options)
    return predict.run(wanted, out / "statistics")


def record(out, basis="cubic"):
    return json.loads((out / "statistics" / f"prediction_{basis}" / "prediction.json").read_text())


def expected(cases, groups, basis="cubic"):
    values = [cases[name] for name in ("D0I_mri_um2_ms", "vCS_mri_um")]
    return cross_validated_prediction(*values, np.log10(cases["volume_mm3"]), groups=groups, basis=basis)


def test_patients_stay_together_if_the_table_knows_them(table, tmp_path):
    table.to_csv(tmp_path / "tumours.csv", index=False)
    predicted(tmp_path, tmp_path / "tumours.csv")
    written = [path.relative_to(tmp_path / "statistics") for path in (tmp_path / "statistics").rglob("*.*")]
    assert {path.as_posix() for path in written} == {
        f"prediction_{basis}/{name}" for basis in ("cubic", "printed") for name in FILES
    }
    for basis in ("cubic", "printed"):
        truth = expected(table, table["patient"].astype(str), basis)
        assert record(tmp_path, basis)["r"] == pytest.approx(truth.r, rel=1e-9)
    assert record(tmp_path)["Parameters"]["group_by"] == "patient"
    predicted(tmp_path, tmp_path / "tumours.csv", group_by="sample")
    assert record(tmp_path)["n_groups"] == 36
    assert record(tmp_path)["r"] == pytest.approx(expected(table, table["sample"]).r, rel=1e-9)


def test_of_the_samples_those_of_the_best_model_are_taken(table, tmp_path):
    other = table.assign(vCS_mri_um=table["vCS_mri_um"][::-1].to_numpy(), model="diff-in", strategy="whole")
    both = pd.concat([other, table.assign(model="diff-in-ex", strategy="high-b")]).drop(columns="patient")
    both.to_csv(tmp_path / "pairs.csv", index=False)
    rows = [{"model": "diff-in-ex", "strategy": "high-b"}, {"model": "diff-in", "strategy": "whole"}]
    write_json(tmp_path / "scores.json", {"models": rows})
    predicted(tmp_path)
    assert record(tmp_path)["r"] == pytest.approx(expected(table, None).r, rel=1e-9)
    assert record(tmp_path)["Parameters"]["model"] == "diff-in-ex"
    predicted(tmp_path, model="diff-in")
    assert record(tmp_path)["r"] == pytest.approx(expected(other, None).r, rel=1e-9)
    with pytest.raises(InputError, match="no sample was fitted with diff-in-extd"):
        predicted(tmp_path, model="diff-in-extd")
    (tmp_path / "scores.json").unlink()
    with pytest.raises(InputError, match="the models were not ranked; name a model and a strategy"):
        predicted(tmp_path)


def test_tumours_of_a_patient_stay_together_as_by_the_command(table, tmp_path):
    """From the samples, some of which (mice without a volume) have no patient."""
    mice = table.head(3).assign(sample=["m1", "m2", "m3"], volume_mm3=np.nan, patient=None)
    both = pd.concat([mice, table.assign(patient=[f"P{case % 12}" for case in range(36)])])
    both.assign(model="diff-in", strategy="high-b").to_csv(tmp_path / "pairs.csv", index=False)
    write_json(tmp_path / "scores.json", {"models": [{"model": "diff-in", "strategy": "high-b"}]})
    predicted(tmp_path)
    ours, hand = tmp_path / "statistics" / "prediction_cubic", tmp_path / "hand"
    cases = pd.read_csv(ours / "predictions.csv").dropna(subset="fold")
    assert len(cases) == 36 and cases["fold"].nunique() == 5
    assert (cases.groupby("patient")["fold"].nunique() == 1).all()
    predict_table(tmp_path / "pairs.csv", target="volume_mm3", group_by="patient").write(hand)
    assert (hand / "prediction_printed" / "predictions.csv").exists()
    for name in ("predictions.csv", "prediction_surface.csv"):
        assert (hand / name).read_bytes() == (ours / name).read_bytes()
    by_hand = json.loads((hand / "prediction.json").read_text())
    assert {**record(tmp_path), "Parameters": {}} == {**by_hand, "Parameters": {}}
    # What is predicted of a fold is what ordinary least squares of the other patients' tumours say.
    x, y, truth = (cases[name].to_numpy() for name in ("D0I_mri_um2_ms", "vCS_mri_um", "log10(volume_mm3)"))
    terms = np.stack([(x / 2) ** i * (y / 25) ** j for i in range(4) for j in range(4 - i)], axis=1)
    for fold in range(1, 6):
        inside = (cases["fold"] == fold).to_numpy()
        fitted = np.linalg.lstsq(terms[~inside], truth[~inside], rcond=None)[0]
        np.testing.assert_allclose(terms[inside] @ fitted, cases["predicted"][inside], rtol=1e-6)
    predicted(tmp_path, group_by="sample")
    alone = pd.read_csv(ours / "predictions.csv").merge(cases[["sample", "patient"]], on="sample")
    assert alone.groupby("patient")["fold"].nunique().max() > 1


def test_a_case_without_patient_is_refused_where_it_counts(table, tmp_path):
    table.assign(patient=["", *["P1"] * 20, *["P2"] * 15]).to_csv(tmp_path / "tumours.csv", index=False)
    with pytest.raises(InputError, match="column 'patient', line 2 is empty"):
        predicted(tmp_path, tmp_path / "tumours.csv")


def test_a_basis_that_cannot_be_fitted_costs_no_other(table, tmp_path):
    table.head(11).to_csv(tmp_path / "few.csv", index=False)
    problems = predicted(tmp_path, tmp_path / "few.csv", group_by="sample").warnings
    (problem,) = (text for text in problems if text.startswith("predict "))
    assert problem.startswith("predict volume_mm3 (cubic): 11 complete cases are too few") and "few.csv" not in problem
    assert record(tmp_path, "printed")["n"] == 11
    found = predict_table(table.head(11), target="volume_mm3", group_by="sample")
    assert set(found.found) == {"printed"} and "cubic" in found.problems
    assert "printed: log10(volume_mm3): r = " in repr(found) and "cubic: predict volume_mm3 (cubic): 11" in repr(found)
    with pytest.raises(InputError, match="no table to predict from"):
        predict_table(PredictOptions(target="volume_mm3"))
