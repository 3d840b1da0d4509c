"""Phantoms: synthetic chest images with known findings, for tests and the offline demonstration.

They are drawn from formulas, not from patients; every file says so in its name, or in a `PHANTOM.txt` where a
release's own names are kept, and within the file. A result on phantoms shows that the machinery works and
proves nothing about medicine.
"""

from mococxr.synthetic.anatomy import Anatomy, draw_anatomy
from mococxr.synthetic.image import FINDINGS, draw_phantom, write_phantoms
from mococxr.synthetic.releases import write_chexpert, write_shenzhen

__all__ = ["FINDINGS", "Anatomy", "draw_anatomy", "draw_phantom", "write_chexpert", "write_phantoms", "write_shenzhen"]
