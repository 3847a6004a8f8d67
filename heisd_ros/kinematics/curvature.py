"""Radius of curvature of a short piece of path, by a closed-form circle fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

# Relative size below which a quantity is rounding, not geometry.
_NEGLIGIBLE = 1e-9

# A path at least this much longer than its chord turns by 130 degrees or more, if it is an arc.
_WINDING = 0.8
# Share by which the radius of a fit may exceed that of the winding: a polygon is short of its arc.
_LEEWAY = 1.5


@dataclass(frozen=True, eq=False)
class CircleFit:
    """The circle nearest to a set of points.

    Attributes:
        radius: metres, finite, in [0, max_radius]. 0 where the points do not spread at all.
        centre: shape (3,), metres; None where the radius is capped or 0, so no circle is meant.
        normal: shape (3,), unit normal of the best plane, sign arbitrary.
    """

    radius: float
    centre: np.ndarray | None
    normal: np.ndarray


def fit_circle(points: np.ndarray, max_radius: float) -> CircleFit:
    """Fits a circle to points on their best plane (Taubin's fit, no iteration).

    The points are centred and projected on the two leading principal directions; there Taubin's
    algebraic fit is solved by a singular value decomposition (G. Taubin, "Estimation of planar
    curves, surfaces and nonplanar space curves", PAMI 1991; in this form N. Chernov, "Circular and
    linear regression", 2010, section 5.10). It has little bias on short arcs, where the plain
    least-squares (Kasa) fit shrinks the radius. The fit commutes with rotation, translation and
    scale (`max_radius` scaled along).

    Args:
        points: shape (n, 3), n >= 3, metres, any frame.
        max_radius: metres, > 0. Flatter paths, straight lines among them, are given this radius.

    Raises:
        ValueError: fewer than 3 points, a wrong shape, a number that is not finite, or a
            `max_radius` that is not positive and finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 3:
        raise ValueError(f"points must have shape (n >= 3, 3), got {points.shape}")
    # Plain numbers wherever numpy would only be called: of so few it takes several times as long.
    if not all(map(math.isfinite, points.ravel().tolist())):
        raise ValueError("points must be finite")
    if not (math.isfinite(max_radius) and max_radius > 0.0):
        raise ValueError(f"max_radius must be positive and finite, got {max_radius}")

    middle = points.sum(axis=0) / len(points)
    centred = points - middle
    size = _largest(centred)
    if size <= _NEGLIGIBLE * _largest(points):
        return CircleFit(0.0, None, np.array([0.0, 0.0, 1.0]))
    centred /= size
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    if spread[1] <= _NEGLIGIBLE * spread[0]:
        return CircleFit(float(max_radius), None, axes[2])

    plane = (centred @ axes[:2].T).tolist()
    z = [x * x + y * y for x, y in plane]
    mean = math.fsum(z) / len(z)
    scale = 2.0 * math.sqrt(mean)
    # The smallest right singular vector is (a, b, c) of a z' + b x + c y = 0, in which Taubin's
    # constraint has become |(a, b, c)| = 1.
    terms = [((square - mean) / scale, x, y) for square, (x, y) in zip(z, plane, strict=True)]
    _, _, vectors = np.linalg.svd(terms, full_matrices=False)
    a, b, c = vectors[2].tolist()
    a /= scale
    flatness = 2.0 * abs(a) * float(max_radius) / size  # diameter cap times curvature
    root = math.sqrt(b * b + c * c + 4.0 * a * a * mean)
    if flatness <= root:
        return CircleFit(float(max_radius), None, axes[2])
    radius = float(size * root / (2.0 * abs(a)))
    centre = middle + size * (-(b * axes[0] + c * axes[1]) / (2.0 * a))
    return CircleFit(radius, centre, axes[2])


def path_radius(points: np.ndarray, max_radius: float) -> float:
    """Radius of curvature of a path, m: that of `fit_circle`, bounded by how much the path winds.

    A fit knows places and not their order, so a way out and back is a straight line to it. An arc
    of length L that turns by 2 x has the chord L sin(x) / x; a path that is much longer than its
    chord gets the radius L / (2 x) of the arc with the same ratio, where the fit says more.

    Args:
        points: shape (n, 3), n >= 3, metres, in the order of time.
        max_radius: metres, > 0.

    Raises:
        ValueError: as `fit_circle`.
    """
    radius = fit_circle(points, max_radius).radius
    places = np.asarray(points, dtype=np.float64).tolist()
    length = math.fsum(math.dist(a, b) for a, b in pairwise(places))
    chord = math.dist(places[0], places[-1])
    if chord >= _WINDING * length:
        return radius
    half_turn = brentq(lambda x: math.sin(x) - x * chord / length, 1.0, 3.2)
    winding = length / (2.0 * half_turn)
    return winding if radius > _LEEWAY * winding else radius


def _largest(numbers: np.ndarray) -> float:
    return max(map(abs, numbers.ravel().tolist()))
