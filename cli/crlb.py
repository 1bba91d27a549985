"""`histomri crlb`: what a protocol can tell, before anyone is scanned."""

from typing import Annotated

import typer

from .common import PROTOCOL, Models, OutDir, Preset, Quiet, announce


def crlb(
    protocol: Annotated[str, typer.Argument(help=PROTOCOL)],
    out: OutDir,
    snr: Annotated[float, typer.Option(help="Signal at b = 0 and the shortest echo time over the noise level.")] = 30.0,
    model: Models = None,
    preset: Preset = None,
    strategy: Annotated[
        str | None, typer.Option(help="whole or high-b: the preset's b threshold; by default, both.")
    ] = None,
    bmin: Annotated[float | None, typer.Option(help="Use b above this, s/mm², in place of --strategy.")] = None,
    t2t: Annotated[float | None, typer.Option(help="T2 of the tissue, ms, by which later echoes are noisier.")] = None,
    quiet: Quiet = False,
) -> None:
    """Tell what a protocol can identify: the smallest standard deviations that any fit can have (Cramér-Rao).

    Example: histomri crlb invivo-3t --snr 30 --model diff-in --model diff-in-ex -o crlb
    """
    from histomri.study.stages.crlb import run_crlb

    result = run_crlb(
        protocol, out, snr=snr, models=model or ["diff-in"], preset=preset, strategy=strategy, bmin=bmin, t2t_ms=t2t
    )
    announce(result, quiet)
