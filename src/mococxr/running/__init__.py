"""One command from a folder to an answer: `run.py` is the story."""
