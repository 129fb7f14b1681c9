"""Targets behind an option that takes every word that follows it."""

# Their values are all NAME=VALUE; what else follows them can only be a target.
ASSIGNING = (
    "--resources",
    "--config",
    "--set-resources",
    "--set-threads",
    "--set-scatter",
    "--set-resource-scopes",
    "--default-resources",
)


def is_assigning(name: str) -> bool:
    """Whether an option, maybe shortened, takes assignments."""
    return name == "-C" or (len(name) > 4 and any(option.startswith(name) for option in ASSIGNING))


def targets_first(words: list[str]) -> list[str]:
    """The words of a command with the targets that such an option would swallow before everything else.

    `--cores 8 --resources gpu=1 tables` becomes `tables --cores 8 --resources gpu=1`. Where the option has no value yet, a word
    may be a mistaken one and is left to Snakemake's message.
    """
    targets, rest, assigned = [], [], None
    for place, word in enumerate(words):
        if word == "--":
            return targets + rest + words[place:]
        if word.startswith("-"):
            # None: not behind such an option; else whether it has a value
            assigned = ("=" in word) if is_assigning(word.partition("=")[0]) else None
        elif assigned is not None and "=" in word:
            assigned = True
        elif assigned:
            targets.append(word)
            continue
        rest.append(word)
    return targets + rest
