"""Names that files share: prefixes of the columns of index, split and predictions.parquet, and the numbers in MIMIC's ids."""

LABEL = "label:"  # one column a class
SCORE = "score:"
NUMBER = "[0-9]{1,18}"  # of a patient or study, as a pattern; it fits 64 bits
