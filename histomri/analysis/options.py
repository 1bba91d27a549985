"""The options of score, correlate, regress, compare, predict, harmonise, agree and power."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from histomri.core.options import Flag, Fraction, Number, Options, Seed, Text, Whole, argument, given, option, output

Basis = Literal["cubic", "printed"]
Adjustment = Literal["bh", "holm", "bonferroni"]
Interval = Literal["jackknife", "fisher"]
Resamples = Annotated[Whole, Field(ge=100, le=100_000)]  # fewer make no interval, more cost memory and change no digit
Columns = tuple[Text, ...]

_WITHIN = "Column of groups to compare pooled scores with those within: group or scanner; by default what there is."
_PATIENT = "Column of patients, of whom one may have several samples; by default patient. With sample there are none."
_TABLE = "Table (.csv, .xlsx, .parquet), a row per sample, model and strategy."


class TableOptions(Options):
    """What every command that reads a table has."""

    table: Path = argument(_TABLE)
    columns: Path | None = given(None, "TOML file that maps histomri's column names to those of the table.")
    missing: Columns = option((), "Cell that stands for a missing value, such as n.d. or <LOD; may be repeated.")

    def named(self, *names: str) -> dict[str, Any]:
        """Return some of the options by name, for the record of a result."""
        return {name: getattr(self, name) for name in names}

    def reads(self) -> Iterator[Path]:
        """Yield the table, its sidecar if there is one, and the column map."""
        yield from super().reads()
        if self.table is not None and (sidecar := self.table.with_suffix(".json")).exists():
            yield sidecar


class _CaseOptions(TableOptions):
    model: Text | None = option(None, "Use the rows of this model only.")
    strategy: Text | None = option(None, "Use the rows of this strategy only.")


class _PatientOptions(_CaseOptions):
    patient: Text | None = option(None, _PATIENT)


class _SplitOptions(_PatientOptions):
    by: Text | None = option(None, "Split the samples by this column, such as scanner.")


class ScoreOptions(TableOptions):
    """Rank signal models by their agreement with histology: TCS, HFC and the vote of BIC, with confidence intervals.

    Example: histomri score pairs.csv -o scores/
    """

    table: Path = argument("Table of pairs (.csv, .xlsx, .parquet), a row per sample or voxel, and model.")
    boot: Resamples = option(2000, "Resamples of the bootstrap over cases.")
    seed: Seed = option(0, "Seed of the bootstrap.")
    patient: Text | None = option(None, _PATIENT)
    within: Text | None = option(None, _WITHIN)


class CorrelateOptions(_SplitOptions):
    """Correlate columns, with intervals, p, N and false discovery rate; voxels with an effective sample size.

    Without --x every measurement is correlated with every other; in a table of voxels histology with MRI.

    Example: histomri correlate pairs.csv -o correlations/ --model diff-in --strategy high-b
    """

    table: Path = argument("Table (.csv, .xlsx, .parquet), a row per sample, model and strategy (or voxel).")
    x: Columns = option((), "Column to correlate; may be repeated.")
    y: Columns = option((), "Column to correlate each x with; may be repeated.")
    group_by: Text | None = option(None, "Column that says which rows belong together, such as patient.")
    method: Literal["both", "pearson", "spearman"] = option("both", "Linear correlations, of ranks, or both.")
    interval: Interval = option("jackknife", "Intervals of tables of samples: for any values, or for normal ones.")
    adjust: Adjustment = option("bh", "How q allows for the number of tests.")
    within: Text | None = option(None, _WITHIN)

    @model_validator(mode="after")
    def _has_x(self) -> "CorrelateOptions":
        if self.y and not self.x:
            raise ValueError("{y} needs at least one {x}")
        return self

    @property
    def kinds(self) -> tuple[Literal["pearson", "spearman"], ...]:
        """Kinds of correlation."""
        return ("pearson", "spearman") if self.method == "both" else (self.method,)


class RegressOptions(_SplitOptions):
    """Regress MRI metrics on histological ones, z-scored, with robust standard errors and variance inflation.

    Example: histomri regress pairs.csv -o regression/ --model diff-in --strategy high-b
    """

    response: Text | None = option(None, "Column to explain; by default the three MRI metrics.")
    predictor: Columns = option((), "Column that explains the response; may be repeated.")

    @model_validator(mode="after")
    def _is_a_model(self) -> "RegressOptions":
        if (self.response is None) != (not self.predictor):
            raise ValueError("a model needs a {response} and at least one {predictor}")
        return self


class CompareOptions(_PatientOptions):
    """Compare groups: Welch, Student and Mann-Whitney tests, effect sizes with confidence intervals.

    Example: histomri compare pairs.csv -o groups/ --by group --model diff-in --strategy high-b
    """

    by: Text = option("group", "Column with the groups.")
    measure: Columns = option((), "Column to compare, by default all measurements; may be repeated.")
    adjust: Adjustment = option("bh", "How q allows for the number of tests.")


class PredictOptions(_PatientOptions):
    """Predict tumour volume, or another column, from a polynomial of two metrics, with cross-validation.

    Results of the first basis are in the folder itself, those of others in prediction_BASIS below it.

    Example: histomri predict tumours.csv -o volume/ --target volume_mm3 --group-by patient
    """

    # A study without a table of its own predicts from its samples.
    table: Path | None = argument(_TABLE, default=None, role="option")  # type: ignore[assignment]
    target: Text = option(..., "Column to predict, such as volume_mm3.")
    x: Text = option("D0I_mri_um2_ms", "First metric.")
    y: Text = option("vCS_mri_um", "Second metric.")
    log10: Flag = option(True, "Predict the logarithm of the target.")
    bases: Annotated[tuple[Basis, ...], Field(min_length=1)] = option(
        ("cubic", "printed"),
        "Full cubic polynomial, or the seven terms of the paper's Eq. 17; may be repeated.",
        flag="--basis",
    )
    folds: Annotated[Whole, Field(ge=2)] = option(5, "Folds of the cross-validation.")
    group_by: Text | None = option(
        None, "Column whose cases stay in one fold; by default patient, if the table has it. Alone: sample."
    )
    boot: Resamples = option(1000, "Resamples of the bootstrap.")
    seed: Seed = option(0, "Seed of folds and bootstrap.")
    ranking: Path | None = given(None, "scores.json, whose first model and strategy are the default.", hidden=True)
    folder_each: Flag = output(False, "A folder prediction_BASIS for the first basis too.", hidden=True)


class HarmoniseOptions(_CaseOptions):
    """Take the effect of the scanner out of MRI metrics by ComBat, keeping what covariates explain.

    Example: histomri harmonise pairs.csv -o harmonised/ --reference 3T --covariate group
    """

    batch: Text = option("scanner", "Column with the batches.")
    reference: Text | None = option(None, "Batch that stays as it is; without it all are brought to their mean.")
    covariate: Columns = option((), "Column whose effect is kept; may be repeated.")
    measure: Columns = option((), "Metric to harmonise, by default those of MRI; may be repeated.")
    eb: Flag = option(True, "Empirical Bayes: metrics learn from each other.")
    mean_only: Flag = option(False, "Correct the shift and not the scale.")


class AgreeOptions(_SplitOptions):
    """Judge the agreement of MRI and histology: Bland-Altman, intraclass correlation, bias by size.

    Example: histomri agree pairs.csv -o agreement/ --model diff-in --strategy high-b --relative
    """

    first: Text | None = option(None, "Column of the method to judge.")
    second: Text | None = option(None, "Column of the reference, in the same unit.")
    relative: Flag = option(False, "Differences in percent.")
    bins: Annotated[Whole, Field(ge=1)] = option(3, "Classes of size.")

    @model_validator(mode="after")
    def _is_a_pair(self) -> "AgreeOptions":
        if (self.first is None) != (self.second is None):
            raise ValueError("agreement needs two columns: {first} and {second}")
        return self


class RepeatOptions(_CaseOptions):
    """Judge how far a measurement repeats itself: wSD, wCV and repeatability coefficient of a test-retest table.

    Example: histomri repeat visits.csv -o repeatability/ --subject patient --measure vCS_mri_um
    """

    table: Path = argument("Table (.csv, .xlsx, .parquet), a row per measurement of a subject (and model, strategy).")
    subject: Text = option("sample", "Column of what was measured several times, such as sample or patient.")
    measure: Columns = option((), "Column to judge, by default all measurements; may be repeated.")


class PowerOptions(TableOptions):
    """Say how many samples a correlation needs, and what correlation the present number can detect.

    Example: histomri power pairs.csv -o power/ --r 0.4 --n 25
    """

    table: Path | None = argument("Table whose complete pairs of vCS and F are counted.", default=None)  # type: ignore[assignment]
    r: tuple[Annotated[Number, Field(ge=-1, le=1)], ...] = option((), "Correlation to plan for; may be repeated.")
    n: tuple[Annotated[Whole, Field(ge=4)], ...] = option((), "Number of samples to judge; may be repeated.")
    power: Annotated[Number, Field(gt=0, lt=1)] = option(0.8, "Wanted power.")
    alpha: Annotated[Number, Field(gt=0, lt=1)] = option(0.05, "Level of the two-sided test.")
    rival: Annotated[Number, Field(gt=-1, lt=1)] | None = option(
        None, "Correlation of another model with the same histology: plan for its difference from each r."
    )
    r_between: Annotated[Number, Field(gt=-1, lt=1)] = option(0.8, "With a rival: correlation between both models.")
    models: Annotated[Whole, Field(ge=2, le=50)] | None = option(
        None, "With a rival: number of models, of which the one with r is to rank first by TCS."
    )
    rows: Annotated[Whole, Field(ge=2, le=100)] | None = option(None, "Rows per patient: plan for patients.")
    icc: Fraction = option(0.5, "With rows: share of the variance that lies between patients.")
    patient: Text | None = option(None, _PATIENT)

    @model_validator(mode="after")
    def _has_a_plan(self) -> "PowerOptions":
        if self.table is None and not self.n and not self.r:
            raise ValueError("there is nothing to plan; give a {table}, {r} or {n}")
        if not self.alpha < self.power:
            raise ValueError("{power} must be greater than {alpha}")
        if self.models is not None and self.rival is None:
            raise ValueError("{models} needs a {rival}")
        return self


class StatisticsOptions(TableOptions):
    """Correlate, regress, and compare the samples of a study, as the commands of these names do."""

    measures: Columns = given((), "Columns to correlate and compare beside those of histomri, such as Ki-67.")
