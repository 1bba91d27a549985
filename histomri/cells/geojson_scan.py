"""Compiled scanner of GeoJSON text: where features end, and their coordinates as numbers.

Nearly all of a GeoJSON file is coordinates, and as Python lists each of them would be an object. So they are read here
straight from the bytes, and only what is left of a feature (a few words, its measurements) goes to a JSON parser.
"""

import numba
import numpy as np

# What `scan` says when it stops.
MORE, END, FULL = 0, 1, 2
# Columns of the tables that it fills.
TEXT_END, ARRAY_END = 0, 1  # of a value: where its text ends, how many arrays there are up to it
DEPTH, RING_END = 0, 1  # of an array: brackets around a number, how many rings there are up to it
POINT_END, POLYGON = 0, 1  # of a ring: how many points there are up to it, which polygon of its array it is in

_QUOTE, _ESCAPE, _COMMA, _COLON = ord('"'), ord("\\"), ord(","), ord(":")
_MINUS, _PLUS, _POINT, _E, _SMALL_E = ord("-"), ord("+"), ord("."), ord("E"), ord("e")
_OPEN, _CLOSE, _BRACE, _UNBRACE = ord("["), ord("]"), ord("{"), ord("}")
_N, _I = ord("N"), ord("I")
_KEY = np.frombuffer(b'"coordinates"', dtype=np.uint8)
_SHADOW = np.frombuffer(b'null,"_":', dtype=np.uint8)
_POWERS = 10.0 ** np.arange(23)  # exact in double precision
_AREAL, _DEEPEST = 3, 4  # brackets around the numbers of a Polygon, of a MultiPolygon; points and lines have fewer
_INCOMPLETE, _READ, _ODD = 0, 1, 2


@numba.njit(cache=True, nogil=True)
def _blank(byte: int) -> bool:
    return byte == 32 or byte == 10 or byte == 13 or byte == 9


@numba.njit(cache=True, nogil=True)
def _opens(byte: int) -> bool:
    return byte in (_OPEN, _BRACE)


@numba.njit(cache=True, nogil=True)
def _closes(byte: int) -> bool:
    return byte in (_CLOSE, _UNBRACE)


@numba.njit(cache=True, nogil=True)
def _skip(text: np.ndarray, at: int, end: int) -> int:
    while at < end and _blank(text[at]):
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _is_digit(text: np.ndarray, at: int, end: int) -> bool:
    return at < end and 48 <= text[at] <= 57


@numba.njit(cache=True, nogil=True)
def _digits(text: np.ndarray, at: int, end: int, mantissa: int, scale: int, step: int) -> tuple[int, int, int]:
    """Read digits; `scale` changes by `step` for each that counts, or by step + 1 for each beyond the eighteenth."""
    while _is_digit(text, at, end):
        if mantissa < 10**17:
            mantissa = mantissa * 10 + (text[at] - 48)
            scale += step
        else:
            scale += step + 1
        at += 1
    return at, mantissa, scale


@numba.njit(cache=True, nogil=True)
def _exponent(text: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Read what follows the letter e; the place is -1 if that is no whole number."""
    down = at < end and text[at] == _MINUS
    at += 1 if at < end and (text[at] == _MINUS or text[at] == _PLUS) else 0
    first, power = at, 0
    while _is_digit(text, at, end):
        power = min(power * 10 + (text[at] - 48), 9999)
        at += 1
    return (-1 if at == first else at), (-power if down else power)


@numba.njit(cache=True, nogil=True)
def _number(text: np.ndarray, at: int, end: int) -> tuple[float, int]:
    """Return the number that starts at `at`, and where it ends; the place is -1 if it is none of JSON's.

    Up to 15 digits are rounded correctly; with more, the last bit may differ.
    """
    negative = text[at] == _MINUS
    first = at + 1 if negative else at
    at, mantissa, scale = _digits(text, first, end, 0, 0, 0)
    if at == first or (text[first] == 48 and at > first + 1):
        return 0.0, -1
    if at < end and text[at] == _POINT:
        first = at + 1
        at, mantissa, scale = _digits(text, first, end, mantissa, scale, -1)
        if at == first:
            return 0.0, -1
    if at < end and (text[at] == _E or text[at] == _SMALL_E):
        at, power = _exponent(text, at + 1, end)
        scale += power
    value = float(mantissa)
    if -23 < scale < 0:
        value /= _POWERS[-scale]
    elif scale > 0 or scale < 0:
        value *= 10.0**scale
    return (-value if negative else value), at


@numba.njit(cache=True, nogil=True)
def _closed(above: int, n_points: int, rings: np.ndarray, n_rings: int, polygon: int) -> tuple[int, int, int]:
    """Note the end of a point (0 levels above the numbers), a ring (1) or a polygon (2)."""
    if above == 1:
        rings[n_rings, POINT_END], rings[n_rings, POLYGON] = n_points, polygon
        n_rings += 1
    return n_points + (1 if above == 0 else 0), n_rings, polygon + (1 if above == 2 else 0)


@numba.njit(cache=True, nogil=True)
def _coordinates(
    text: np.ndarray, at: int, end: int, points: np.ndarray, n_points: int, rings: np.ndarray, n_rings: int
) -> tuple[int, int, int, int, int]:
    """Read nested arrays of numbers; return status, place after them, depth of the numbers, points, rings."""
    # Where numbers are, how many this point has, in which polygon; what the last token was: 0 [, 1 comma, 2 a value.
    depth, leaf, count, polygon, last = 0, 0, 0, 0, 1
    while at < end:
        byte = text[at]
        if byte == _OPEN:
            depth += 1
            if last == 2 or depth > _DEEPEST or (leaf > 0 and depth > leaf):
                break
            count, last = 0, 0
        elif byte == _CLOSE:
            if last != 2 or (depth == leaf and count < 2):
                break
            n_points, n_rings, polygon = _closed(leaf - depth, n_points, rings, n_rings, polygon)
            depth -= 1
            if depth == 0:
                return _READ, at + 1, leaf, n_points, n_rings
        elif byte == _COMMA:
            if last != 2:
                break
            last = 1
        else:
            leaf = depth if leaf == 0 else leaf
            value, stop = _number(text, at, end)
            if stop < 0 or last == 2 or depth != leaf or not np.isfinite(value):
                break  # a number that the end of the text cut in two may look wrong as well; more text will tell
            points[n_points, min(count, 2)] = value
            count, last, at = count + 1, 2, stop - 1
        at = _skip(text, at + 1, end)
    return (_INCOMPLETE if at >= end else _ODD), at, 0, n_points, n_rings


@numba.njit(cache=True, nogil=True)
def _copy_string(text: np.ndarray, at: int, end: int, out: np.ndarray, place: int) -> tuple[int, int]:
    """Copy a string with its quotes; the place is -1 if it does not end."""
    out[place] = _QUOTE
    at, place = at + 1, place + 1
    while at < end:
        byte = text[at]
        out[place] = byte
        at, place = at + 1, place + 1
        if byte == _QUOTE:
            return at, place
        if byte == _ESCAPE and at < end:
            out[place] = text[at]
            at, place = at + 1, place + 1
    return -1, place


@numba.njit(cache=True, nogil=True)
def _write_number(number: int, out: np.ndarray, place: int) -> int:
    width, rest = 1, number
    while rest >= 10:
        rest //= 10
        width += 1
    for back in range(width):
        out[place + width - 1 - back] = 48 + number % 10
        number //= 10
    return place + width


@numba.njit(cache=True, nogil=True)
def _starts_with(text: np.ndarray, at: int, end: int, word: np.ndarray) -> bool:
    if at + word.size > end:
        return False
    same = 0
    while same < word.size and text[at + same] == word[same]:
        same += 1
    return same == word.size


@numba.njit(cache=True, nogil=True)
def _take_coordinates(
    text: np.ndarray,
    at: int,
    end: int,
    out: np.ndarray,
    place: int,
    points: np.ndarray,
    rings: np.ndarray,
    arrays: np.ndarray,
    counts: np.ndarray,
) -> tuple[int, int]:
    """Write the number of the array that follows a key; what is no array of numbers is left for the parser."""
    at = _skip(text, at, end)
    if at >= end or text[at] != _COLON:
        return at, place
    out[place] = _COLON
    place += 1
    at = _skip(text, at + 1, end)
    if at >= end or text[at] != _OPEN:
        # A number here would be taken for the number of an array.
        out[place : place + _SHADOW.size] = _SHADOW
        return at, place + _SHADOW.size
    status, stop, leaf, n_points, n_rings = _coordinates(text, at, end, points, counts[0], rings, counts[1])
    if status == _ODD:
        return at, place
    if status == _INCOMPLETE:
        return end, place
    if leaf >= _AREAL:
        counts[0], counts[1] = n_points, n_rings
    arrays[counts[2], DEPTH], arrays[counts[2], RING_END] = leaf, counts[1]
    place = _write_number(counts[2], out, place)
    counts[2] += 1
    return stop, place


@numba.njit(cache=True, nogil=True)
def _quote_word(text: np.ndarray, at: int, end: int, out: np.ndarray, place: int) -> tuple[int, int]:
    """Put a bare NaN or Infinity in quotes: QuPath before 0.5 wrote them bare, later versions write strings."""
    if place > 0 and out[place - 1] == _MINUS:
        out[place - 1], out[place] = _QUOTE, _MINUS
    else:
        out[place] = _QUOTE
    place += 1
    while at < end and (65 <= text[at] <= 90 or 97 <= text[at] <= 122):
        out[place] = text[at]
        at, place = at + 1, place + 1
    out[place] = _QUOTE
    return at, place + 1


@numba.njit(cache=True, nogil=True)
def _value(
    text: np.ndarray,
    at: int,
    end: int,
    out: np.ndarray,
    place: int,
    points: np.ndarray,
    rings: np.ndarray,
    arrays: np.ndarray,
    counts: np.ndarray,
) -> tuple[int, int]:
    """Copy one JSON value, its coordinates taken out; return where it and its copy end, -1 if it does not end."""
    depth = 0
    while at < end:
        byte = text[at]
        if byte == _QUOTE:
            is_key = depth > 0 and _starts_with(text, at, end, _KEY)
            at, place = _copy_string(text, at, end, out, place)
            if at < 0:
                break
            if is_key:
                at, place = _take_coordinates(text, at, end, out, place, points, rings, arrays, counts)
        elif byte == _N or byte == _I:  # noqa: SIM109
            at, place = _quote_word(text, at, end, out, place)
        elif depth == 0 and (byte == _COMMA or _closes(byte) or _blank(byte)):
            return at, place  # after a number in the list itself
        else:
            depth += (1 if _opens(byte) else 0) - (1 if _closes(byte) else 0)
            out[place] = byte
            at, place = at + 1, place + 1
            if _blank(byte):
                at = _skip(text, at, end)
            if not _closes(byte):
                continue
        if depth == 0:
            return at, place
    return -1, place


@numba.njit(cache=True, nogil=True)
def scan(
    text: np.ndarray,
    at: int,
    end: int,
    out: np.ndarray,
    points: np.ndarray,
    rings: np.ndarray,
    arrays: np.ndarray,
    values: np.ndarray,
) -> tuple[int, int, int]:
    """Take apart the values of a list, up to its end or the last one that is complete.

    Parameters
    ----------
    text : (T,) uint8 ndarray
        Text; `at` and `end` say which part of it.
    out : (>= 2 T + 64,) uint8 ndarray
        Takes the values with commas between them; ``"coordinates": [...]`` becomes the number of the array.
    points, rings, arrays, values : (>= T / 4, 3), (>= T / 6, 2), (>= T / 16, 2), (V, 2) ndarray
        Take the coordinates (x, y, and the last of any others) and where rings, arrays and values end.

    Returns
    -------
    tuple
        MORE, END or FULL; where the rest of the text starts; number of values.
    """
    counts = np.zeros(3, dtype=np.int64)  # points, rings, arrays
    place, number = 0, 0
    while True:
        while at < end and (_blank(text[at]) or text[at] == _COMMA):
            at += 1
        if at >= end:
            return MORE, at, number
        if text[at] == _CLOSE:
            return END, at + 1, number
        if number == values.shape[0]:
            return FULL, at, number
        before, n_points, n_rings, n_arrays = place, counts[0], counts[1], counts[2]
        if number > 0:
            out[place] = _COMMA
            place += 1
        stop, place = _value(text, at, end, out, place, points, rings, arrays, counts)
        if stop < 0 or stop == at:
            place, counts[0], counts[1], counts[2] = before, n_points, n_rings, n_arrays
            # Nothing was taken from a place where nothing can start, such as a brace too many.
            return (MORE if stop < 0 else FULL), at, number
        at = stop
        values[number, TEXT_END], values[number, ARRAY_END] = place, counts[2]
        number += 1


@numba.njit(cache=True, nogil=True)
def measure_rings(points: np.ndarray, ends: np.ndarray, measures: np.ndarray, simple: np.ndarray) -> None:
    """Measure rings by the shoelace formula, and tell which are simple for sure.

    A ring whose points go once around its centroid, always in the same sense, cannot cross itself.

    Parameters
    ----------
    points : (P, 2) ndarray
    ends : (R,) int ndarray
        How many points there are up to the end of each ring.
    measures : (R, 3) ndarray
        Takes centroid x, y and area.
    simple : (R,) bool ndarray
        Takes whether the ring has at least three corners and surely does not cross itself.
    """
    start = 0
    for ring in range(ends.size):
        stop = ends[ring]
        last = stop
        while last - start > 1 and points[last - 1, 0] == points[start, 0] and points[last - 1, 1] == points[start, 1]:
            last -= 1  # the ring is closed
        x0, y0 = points[start, 0], points[start, 1]
        twice, x, y = 0.0, 0.0, 0.0
        for i in range(start, last):
            j = i + 1 if i + 1 < last else start
            ax, ay, bx, by = points[i, 0] - x0, points[i, 1] - y0, points[j, 0] - x0, points[j, 1] - y0
            cross = ax * by - bx * ay
            twice += cross
            x += (ax + bx) * cross
            y += (ay + by) * cross
        start_of_ring = start
        start = stop
        measures[ring, 2] = abs(twice) / 2
        simple[ring] = False
        if twice == 0.0 or stop - start_of_ring < 4:
            continue
        x, y = x0 + x / (3 * twice), y0 + y / (3 * twice)
        measures[ring, 0], measures[ring, 1] = x, y
        sense, turns, same = (1.0 if twice > 0 else -1.0), 0, True
        for i in range(start_of_ring, last):
            j = i + 1 if i + 1 < last else start_of_ring
            ax, ay, bx, by = points[i, 0] - x, points[i, 1] - y, points[j, 0] - x, points[j, 1] - y
            if not (ax * by - bx * ay) * sense > 0:
                same = False
                break
            turns += 1 if ay < 0 <= by else 0
        simple[ring] = same and turns == 1
