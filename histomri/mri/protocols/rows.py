"""A text table with a row each of b, δ, Δ and TE, and a column per volume, or the same transposed."""

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError
from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.formats import Format, Source, accepted_forms, number_table, register

_TRSE_ROWS = (7, 8)
_TIMES_BELOW = 200.0


def _read(source: Source) -> Acquisition:
    table = number_table(source.path)
    forms = [form for form in (table, table.T) if form.shape[0] in (3, 4, *_TRSE_ROWS)]
    if not forms:
        found = f"has {table.shape[0]} rows and {table.shape[1]} columns"
        problem = f"{found}; 3 or 4 rows were expected (7 or 8 of a twice-refocused echo)"
        raise ProtocolError(problem, path=source.path, hint=accepted_forms())
    if len(forms) == 2:
        # As few volumes as rows: either way round fits the shape, so the units and the images must decide.
        forms = [form for form in forms if _is_sensible(form, source.volumes)] or forms[:1]
        # Timings read as b-values stay small; no protocol does.
        forms = [form for form in forms if form[0].max() > _TIMES_BELOW] or forms
        if len(forms) == 2:
            problem = f"a table of {table.shape[0]} x {table.shape[1]} can be read by rows or by columns"
            raise ProtocolError(problem, path=source.path, hint="give .bval, .gdur, .gsep and .te files instead")
    return _of_rows(forms[0])


def _of_rows(rows: FloatArray) -> Acquisition:
    if rows.shape[0] not in _TRSE_ROWS:
        return Acquisition(*rows)
    return Acquisition.trse(rows[0], rows[1:5].T, rows[5], rows[6], rows[7] if rows.shape[0] == 8 else None)


def _is_sensible(form: FloatArray, volumes: int | None) -> bool:
    if volumes is not None and form.shape[1] != volumes:
        return False
    try:
        _of_rows(form)
    except ProtocolError:
        return False
    return True


register(
    Format(
        form="a text file with rows b (s/mm²), δ (ms), Δ (ms) and, if there are several echo times, TE (ms); or, "
        "twice-refocused, rows b, δ1, δ2, δ3, δ4, Δ12, Δ14 and TE",
        recognises=lambda source: source.path.exists() and source.path.suffix != ".json",
        read=_read,
        general=True,
    )
)
