"""Whether an image is such as a classifier learned from: how it lies, what it shows, how far its features are off.

`pose` and `text` look at any image; `shape` tells side views and parts of a chest; `distance` reads features; `guard` puts
them together and gives words. Import from its modules. Nothing here needs PyTorch.
"""
