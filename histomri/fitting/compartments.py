"""What tissue models are made of: compartments of water, with a fraction and, if they relax apart, a T2.

A compartment names the parameters of the model that describe it. Without a fraction of its own it has what the others
leave; one compartment of a model may be without.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sphere:
    """Water that spheres restrict: its diffusivity, µm²/ms, and their diameter, µm."""

    diffusivity: str = "D0I"
    size: str = "vCS"
    fraction: str | None = None
    t2: str | None = None

    @property
    def own(self) -> tuple[str, ...]:
        """The parameters of its diffusion."""
        return (self.diffusivity, self.size)


@dataclass(frozen=True)
class Ball:
    """Water that diffuses as if free: its diffusivity, µm²/ms."""

    diffusivity: str = "DEinf"
    fraction: str | None = None
    t2: str | None = None

    @property
    def own(self) -> tuple[str, ...]:
        """The parameters of its diffusion."""
        return (self.diffusivity,)


@dataclass(frozen=True)
class TimedBall:
    """Water of diffusivity D + beta/Δ: that at infinite diffusion time, µm²/ms, and its dependence on it, µm²."""

    diffusivity: str = "DEinf"
    beta: str = "beta"
    fraction: str | None = None
    t2: str | None = None

    @property
    def own(self) -> tuple[str, ...]:
        """The parameters of its diffusion."""
        return (self.diffusivity, self.beta)


@dataclass(frozen=True)
class Gone:
    """Water whose signal is there at b = 0, and gone at every other b that is fitted."""

    fraction: str | None = None
    t2: str | None = None

    @property
    def own(self) -> tuple[str, ...]:
        """The parameters of its diffusion: none."""
        return ()


Compartment = Sphere | Ball | TimedBall | Gone
