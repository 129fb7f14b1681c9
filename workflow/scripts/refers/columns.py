"""Column names that files share, and the pattern of numeric ids.

Index, split and predictions.parquet have one LABEL column per class; predictions.parquet also has one SCORE column each.
"""

LABEL = "label:"
SCORE = "score:"
# A patient's or study's number, as a regular expression; 18 digits fit into 64 bits.
NUMBER = "[0-9]{1,18}"
