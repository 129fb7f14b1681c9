"""Prefixes of columns in index.parquet, split.parquet and predictions.parquet: one column a class follows each."""

LABEL = "label:"
SCORE = "score:"
