"""The paper's experiments, cell by cell, beside its published numbers (arXiv 2010.05352)."""
