"""The library behind the pipeline's scripts; it can be imported and tested without Snakemake.

It is beside the scripts because Snakemake unsets PYTHONPATH in conda jobs: a script finds `refers` only through its own
folder. This file imports nothing, so that a script loads only the modules that it names.
"""
