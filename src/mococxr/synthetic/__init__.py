"""Synthetic chest images with known findings, for tests and the offline demonstration.

They are drawn from formulas, not from patients; every file says so in its name, or in a `SYNTHETIC.txt` where a
release's own names are kept, and within the file. A result on synthetic images shows that the machinery works and
proves nothing about medicine.
"""

from mococxr.synthetic.anatomy import Anatomy, draw_anatomy
from mococxr.synthetic.image import FINDINGS, draw_synthetic, write_synthetic
from mococxr.synthetic.releases import write_chexpert, write_shenzhen

__all__ = [
    "FINDINGS",
    "Anatomy",
    "draw_anatomy",
    "draw_synthetic",
    "write_chexpert",
    "write_shenzhen",
    "write_synthetic",
]
