"""Montgomery tuberculosis set (Jaeger et al., 2014): `CXR_png/MCUCXR_0001_0.png`, one image a patient."""

from __future__ import annotations

from mococxr.datasets.dataset import Cohort, Request
from mococxr.datasets.shenzhen import read_tuberculosis


def read(request: Request) -> Cohort:
    """Read the Montgomery set.

    Raises:
        InputError: see `read_cohort`.
    """
    return read_tuberculosis(request, "montgomery", "MCUCXR")
