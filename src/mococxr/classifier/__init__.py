"""The classifier that a user keeps: `fit` makes it, `predict` scores images with it, `saved` is what lies on disk.

Import from its modules. Nothing is imported here: the processes that decode images (`inputs`) need no PyTorch.
"""
