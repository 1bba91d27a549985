"""`histomri fit`: maps of cell size, fraction and density from diffusion images."""

from pathlib import Path
from typing import Annotated

import typer

from .common import (
    Kurtosis,
    Mask,
    Models,
    OutDir,
    Preset,
    Protocol,
    Quiet,
    Sigma,
    Sub,
    announce,
    progress_bar,
    report_compiling,
)


def fit(
    dwi: Annotated[Path, typer.Argument(help="4D NIfTI of diffusion images.")],
    protocol: Protocol,
    out: OutDir,
    model: Models = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="whole (default) or high-b: the preset's b threshold; repeated, each has a folder in --out."),
    ] = None,
    preset: Preset = None,
    mask: Mask = None,
    sigma: Sigma = None,
    bmin: Annotated[float | None, typer.Option(help="Fit b above this, s/mm², in place of --strategy.")] = None,
    s0: Annotated[Path | None, typer.Option(help="NIfTI map of S0; without it, see --t2ivim.")] = None,
    fv: Annotated[Path | None, typer.Option(help="NIfTI map of the vascular fraction.")] = None,
    t2t: Annotated[Path | None, typer.Option(help="NIfTI map of the tissue T2, ms.")] = None,
    noise: Annotated[
        str | None, typer.Option(help="offset-gaussian (default with --sigma), rician, or none: least squares.")
    ] = None,
    bic: Annotated[
        str, typer.Option(help="schwarz: P ln N - 2 ln λ; or paper: P ln N - ln λ, as in its Eq. 15.")
    ] = "schwarz",
    t2ivim: Annotated[
        bool | None,
        typer.Option(
            "--t2ivim/--no-t2ivim",
            help="Fit S0, fV and T2 first, from all volumes; default: in vivo, with several TE, if they are not given.",
            show_default=False,
        ),
    ] = None,
    kurtosis: Kurtosis = "free",
    dictionary: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="SIGNALS PARAMS",
            help="Simulated signals (.npy, a row each) and their parameters (.npy, .csv), to interpolate and fit.",
        ),
    ] = None,
    dictionary_table: Annotated[
        Path | None, typer.Option(help="The same as one table: columns of parameters, then of signals s0, s1, ...")
    ] = None,
    names: Annotated[str | None, typer.Option(help="Names of the columns of PARAMS.npy, such as fI,vCS.")] = None,
    residuals: Annotated[
        bool, typer.Option("--residuals", help="Write what is left over: per measurement, per voxel, and by b and Δ.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(help="Repeats of a bootstrap, for spread and 95 % intervals; try 100.")] = 0,
    bootstrap_kind: Annotated[
        str, typer.Option(help="parametric: new noise of level --sigma; residual: the voxel's own residuals.")
    ] = "parametric",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    crlb: Annotated[
        bool, typer.Option("--crlb", help="Write what this protocol can tell at this noise; see histomri crlb.")
    ] = False,
    sub: Sub = None,
    quiet: Quiet = False,
) -> None:
    """Fit tissue models to diffusion images: cell size, intra-cellular fraction, cell density.

    Example: histomri fit dwi.nii.gz --protocol mouse-exvivo --mask mask.nii.gz --sigma 12 --model diff-in -o mri
    Example: histomri fit dwi.nii.gz --protocol invivo-3t --mask mask.nii.gz --sigma estimate -o mri
    """
    from histomri.study.stages.fit import read_dictionary, run_fit
    from histomri.study.stages.fit_tasks import Extras

    examples = read_dictionary(dictionary, dictionary_table, names)
    several = strategy if strategy and len(strategy) > 1 else None
    with progress_bar("fitting", quiet) as progress, report_compiling(quiet):
        result = run_fit(
            dwi, protocol, out, models=model or ([] if examples else ["diff-in"]), dictionary=examples,
            strategy=several or (strategy[0] if strategy else None), preset=preset, mask=mask, sigma=sigma, bmin=bmin,
            s0=s0, fv=fv, t2t=t2t, noise=noise, bic=bic, t2ivim=t2ivim, kurtosis=kurtosis,
            extras=Extras(residuals, bootstrap, bootstrap_kind, seed, crlb), sub=sub, progress=progress,
        )  # fmt: skip
    announce(result, quiet)
