"""A text table with a row each of b, δ, Δ and TE (or gradient strength), and a column per volume; or the transposed."""

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError
from histomri.mri.acquisition import Acquisition
from histomri.mri.plausibility import B0_BELOW_SMM2
from histomri.mri.protocols.columns import Columns, matches_gradients
from histomri.mri.protocols.formats import Format, Source, accepted_forms, number_table, register

_KINDS = (3, 4, 7, 8)  # how many numbers a volume may have; 7 and 8 are those of a twice-refocused echo
_TIMES_BELOW = 200.0


def _by_rows(source: Source) -> Acquisition | Columns:
    table = number_table(source.path)
    if table.shape[0] not in _KINDS:
        found = f"has {table.shape[0]} rows and {table.shape[1]} columns"
        problem = f"{found}; 3 or 4 rows were expected (7 or 8 of a twice-refocused echo)"
        raise ProtocolError(problem, path=source.path, hint=accepted_forms())
    return _of_rows(table, source)


def _by_columns(source: Source) -> Acquisition | Columns:
    return _of_rows(number_table(source.path).T, source)


def _of_rows(rows: FloatArray, source: Source) -> Acquisition | Columns:
    if rows.shape[1] in _KINDS:
        _refuse_transposed(rows, source)
    if rows.shape[0] == 3:
        return Columns(*rows)
    if rows.shape[0] == 4:
        return _with_fourth(*rows)
    return Acquisition.trse(rows[0], rows[1:5].T, rows[5], rows[6], rows[7] if rows.shape[0] == 8 else None)


def _with_fourth(b: FloatArray, delta: FloatArray, separation: FloatArray, fourth: FloatArray) -> Columns:
    """Return what four rows say: the fourth is TE, or the gradient strength (mT/m or T/m) if it explains b.

    TE it can be only where no echo comes before its gradients are over. ProtocolError if it can be both.
    """
    weighted = b >= B0_BELOW_SMM2
    is_te = bool(fourth.min() > 0 and (fourth >= delta + separation - 0.05)[weighted].all())
    for scale in (1.0, 1000.0):
        if matches_gradients(b, scale * fourth, delta, separation):
            if is_te:
                hint = "give a table with a header, such as b_smm2, delta_ms, Delta_ms, te_ms"
                raise ProtocolError("the fourth row can be TE (ms) and the gradient strength (mT/m)", hint=hint)
            return Columns(b, delta, separation, gradient_mt_m=scale * fourth)
    return Columns(b, delta, separation, fourth)


def _refuse_transposed(rows: FloatArray, source: Source) -> None:
    """Refuse the wrong way round of a table with as few volumes as kinds of numbers, where images or units say so."""
    if source.volumes is not None and rows.shape[1] != source.volumes:
        raise ProtocolError(f"has {rows.shape[1]} volumes this way round, and the images have {source.volumes}")
    # Timings read as b-values stay small; no protocol does.
    if rows[0].max() <= _TIMES_BELOW < rows[:, 0].max():
        raise ProtocolError(f"has b up to {rows[0].max():g} this way round")


def _fits(source: Source, axis: int) -> bool:
    return source.table.shape[axis] in _KINDS


register(
    Format(
        form="a text file with rows b (s/mm²), δ (ms), Δ (ms) and, if there are several echo times, TE (ms); or, "
        "twice-refocused, rows b, δ1, δ2, δ3, δ4, Δ12, Δ14 and TE",
        recognises=lambda source: (
            source.path.is_file() and source.path.suffix != ".json" and (_fits(source, 0) or not _fits(source, 1))
        ),
        read=_by_rows,
        general=True,
        name="rows",
    )
)
register(
    Format(
        form="the same by columns",
        recognises=lambda source: _fits(source, 1),
        read=_by_columns,
        general=True,
        name="columns",
    )
)
