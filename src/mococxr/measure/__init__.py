"""What a study, an evaluation and a fit measure alike: metrics, operating point, subgroups, comparison, in words.

Functions take arrays (labels 1 or 0, scores, patients; all of shape (N,)) and a `Resampling`, and return a *block*: a
dict whose numbers are blocks of their own, `{"value": ..., "low": ..., "high": ..., "method": ...}`, with a `reason`
where the data define no number. `evaluate` writes blocks as JSON, `measures.columns` makes a study's columns of them.
"""
