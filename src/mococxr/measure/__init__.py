"""What a study, an evaluation and a fit measure alike: metrics, operating point, subgroups, comparison, in words.

Every function takes arrays (labels 1 or 0, scores, patients; all of shape (N,)) and a `Resampling`, and returns a flat
dict, a *block*, whose numbers are blocks of their own: `{"value": ..., "low": ..., "high": ..., "method": ...}`, with a
`reason` where the data define no number. `evaluate` writes blocks as JSON; `columns(block, names)` makes the columns
`NAME, NAME_low, NAME_high` of a study's tables from them. Callers import the files, which say more:

* `measures`: `MEASURES` (one row a metric), `Resampling`, `quoted_auroc`, `averages` over several labels;
* `operating`: `choose_threshold` and `fit_calibrator` on validation rows, `point_block` and `calibration_block` on
  others, `predictive_blocks` at other prevalences;
* `subgroups`: `as_groups` (text, bands of age), `subgroup_blocks`, Holm over the gaps of all columns;
* `comparison`: `verdict` in words, `adjust` (p_holm, p_bh), `margin_block`, `planning_block`.
"""
