"""The classifier that a user keeps: `fitting` makes it, `scoring` scores films with it; `embed` writes features.

Import from its modules. Nothing is imported here: the processes that decode films (`decoding`) need no PyTorch.
"""
