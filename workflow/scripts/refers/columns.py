"""Column names that files share, and the patterns of numeric ids and of what is no text.

Index, split and predictions.parquet have one LABEL column per class; predictions.parquet also has one SCORE column each.
"""

LABEL = "label:"
SCORE = "score:"
# A patient's or study's number, as a regular expression; 18 digits fit into 64 bits.
NUMBER = "[0-9]{1,18}"
# Characters that no table or list has unless it is damaged, as a regular expression.
CONTROL = r"[\x00-\x08\x0e-\x1f\x7f]"
