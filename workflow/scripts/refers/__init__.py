"""The library behind the pipeline's scripts; importable and testable without Snakemake.

It lies beside the scripts because Snakemake unsets PYTHONPATH inside conda jobs: a script finds
`refers` through its own folder alone. Nothing is imported here, so that a script pays only for
the modules it names.
"""
