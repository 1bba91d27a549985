"""The names of the benchmark sets, apart from their code: the command line offers them without loading it."""

from typing import Literal, get_args

SetName = Literal[
    "insilico-paper", "insilico-small", "liver-exvivo", "liver-3t", "liver-1.5t", "sections-nuclei",
    "registration-lobes",
]  # fmt: skip
SET_NAMES: tuple[str, ...] = get_args(SetName)
