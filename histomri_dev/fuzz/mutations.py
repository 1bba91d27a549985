"""Mutations of a file: flipped bits, cuts, swaps, numbers blown up, changes of the structure of JSON and archives."""

import gzip
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_BIG = (
    b"0", b"-1", b"1e308", b"1e999", b"-1e-320", b"nan", b"inf", b"-0", b"1" * 400, b"7" * 5000, b"2147483648",
    b"9223372036854775808", b"0.1.2", b"1,5", b"1e5", b"999999999",
)  # fmt: skip
_WORDS = (
    b"n.d.",
    b"",
    b"\xb5m",
    b"=1+1",
    b"\xff\xfe",
    b"\x00",
    b'"',
    b"true",
    b"null",
    "µ".encode(),
    b"#DIV/0!",
    b"x" * 70000,
)
_VALUES: tuple[Any, ...] = (
    None, True, "word", "", -1, 0, 10**400, 1e308, float("nan"), float("inf"), [], {}, [[]], [None], {"a": 1}, [1] * 3,
    "9" * 6000, 2**63,
)  # fmt: skip


def flip_bit(data: bytes, rng: random.Random) -> bytes:
    """Turn one bit over."""
    at = rng.randrange(8 * len(data))
    changed = bytearray(data)
    changed[at // 8] ^= 1 << (at % 8)
    return bytes(changed)


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Turn some bits over, more often where headers are."""
    for _ in range(rng.choice((2, 4, 16))):
        reach = len(data) if rng.random() < 0.5 else min(len(data), 512)
        at = rng.randrange(8 * reach)
        data = data[: at // 8] + bytes([data[at // 8] ^ (1 << (at % 8))]) + data[at // 8 + 1 :]
    return data


def set_bytes(data: bytes, rng: random.Random) -> bytes:
    """Overwrite 1, 2, 4 or 8 bytes by extreme values."""
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(len(data) - width, 1))
    value = rng.choice(
        (b"\xff" * 8, b"\x00" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f", b"\x00\x00\x80\x7f" * 2)
    )
    return data[:at] + value[:width] + data[at + width :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """Leave out the end, the start, or a part."""
    a, b = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return rng.choice(
        (data[: max(a, 1)], data[: -rng.randint(1, 12)] or data, data[a:] or data, data[:a] + data[b:] or data)
    )


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Write a part twice, or change the places of two parts."""
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return rng.choice((data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:]))


def blow_up(data: bytes, rng: random.Random) -> bytes:
    """Replace a number of a text by another, or by a word."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return flip_bits(data, rng)
    place = rng.choice(found)
    new = rng.choice(_BIG if rng.random() < 0.7 else _WORDS)
    return data[: place.start()] + new + data[place.end() :]


def edit_lines(data: bytes, rng: random.Random) -> bytes:
    """Leave out, repeat, exchange or empty lines or the cells in them."""
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[other])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        lines[at] = rng.choice(_WORDS)
    else:
        mark = next((mark for mark in (b"\t", b";", b",", b" ") if mark in lines[at]), b" ")
        cells = lines[at].split(mark)
        place = rng.randrange(len(cells))
        cells[place : place + 1] = rng.choice(([], [cells[place]] * 2, [rng.choice(_WORDS)]))
        lines[at] = mark.join(cells)
    return b"\n".join(lines) or b"\n"


def edit_json(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove, rename, repeat or nest a value of JSON."""
    try:
        content = json.loads(data)
    except ValueError:
        return blow_up(data, rng)
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting and len(places) < 5000:
        item = waiting.pop()
        inside = (
            list(item.items()) if isinstance(item, dict) else list(enumerate(item)) if isinstance(item, list) else []
        )
        places += [(item, key) for key, _ in inside]
        waiting += [value for _, value in inside]
    if not places:
        return blow_up(data, rng)
    owner, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, dict):
        owner[rng.choice(("", "x" * 300, key.upper(), f"{key} "))] = owner.pop(key)
    elif kind == 2:
        owner[key] = [owner[key]]
    elif kind == 3:
        deep: Any = owner[key]
        for _ in range(rng.choice((3, 900))):
            deep = [deep]
        owner[key] = deep
    else:
        owner[key] = rng.choice(_VALUES)
    return json.dumps(content, ensure_ascii=False).encode()


def within_gzip(inner: Mutation) -> Mutation:
    """Return a mutation of what is packed, packed again with a checksum that is right."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        return gzip.compress(inner(gzip.decompress(data), rng), mtime=0)

    return mutate


def within_zip(inner: Mutation) -> Mutation:
    """Return a mutation of one member of a zip archive, or of the list of members, packed again."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(members))
        kind = rng.randrange(8)
        if kind == 0:
            del members[name]
        elif kind == 1:
            members[name] = members[rng.choice(list(members))]
        elif members[name]:
            members[name] = inner(members[name], rng)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for each, content in members.items():
                archive.writestr(each, content)
        return packed.getvalue()

    return mutate


BYTES: tuple[Mutation, ...] = (flip_bit, flip_bits, set_bytes, cut, repeat)
TEXT: tuple[Mutation, ...] = (flip_bit, cut, repeat, blow_up, blow_up, edit_lines, edit_lines)
JSON: tuple[Mutation, ...] = (flip_bit, cut, blow_up, edit_json, edit_json, edit_json)
