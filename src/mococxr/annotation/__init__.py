"""A page on which readers label the images of a store; `annotate.py` is the story."""
