"""`serve`: a fitted classifier that answers over HTTP, without PyTorch. `serve.py` reads top to bottom."""
