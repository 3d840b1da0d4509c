"""Phantoms: synthetic chest films with known findings, for tests and the offline demonstration.

They are drawn from formulas, not from patients; every file says so in its name and in its PNG text.
A result on phantoms shows that the machinery works and proves nothing about medicine.
"""

from mococxr.phantom.anatomy import Anatomy, draw_anatomy
from mococxr.phantom.film import FINDINGS, draw_phantom
from mococxr.phantom.folder import write_phantoms

__all__ = ["FINDINGS", "Anatomy", "draw_anatomy", "draw_phantom", "write_phantoms"]
