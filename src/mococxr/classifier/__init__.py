"""The classifier that a user keeps: `fitting` makes it, `scoring` scores images with it; `embed` writes features.

Import from its modules. Nothing is imported here: the processes that decode images (`decoding`) need no PyTorch.
"""
