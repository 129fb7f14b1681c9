"""Files of a BERT: in a folder, or in one inside an installed Python package, package:PACKAGE/FOLDER. No torch."""

from importlib.util import find_spec
from pathlib import Path

from refers.config.settings import BERT_FILES
from refers.config.study import PACKAGE
from refers.errors import UserError

# what transformers reads beside them, where it exists
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def lacking(folder: Path) -> str:
    """The first of a BERT's files that a folder lacks, `this or that`; empty where it has all of them."""
    absent = (each for each in BERT_FILES if not any((folder / name).exists() for name in each.split("|")))
    return next(absent, "").replace("|", " or ")


def files_read(folder: Path) -> list[str]:
    """Names of the files that are read of a folder: its weights in one format, and all of its tokenizer's.

    Of a folder without them, the names that are expected.
    """
    config, weights, vocabulary = (each.split("|") for each in BERT_FILES)
    first = next((name for name in weights if (folder / name).exists()), weights[0])
    tokenizer = [name for name in (*vocabulary, *BESIDE) if (folder / name).exists()]
    return [*config, first, *(tokenizer or vocabulary[:1])]


def package_folder(name: str) -> Path:
    """Folder that package:PACKAGE/FOLDER names. The package is looked up and not imported.

    Raises:
        UserError: the package is not installed, or has no such folder.
    """
    package, _, folder = name.removeprefix(PACKAGE).partition("/")
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        found = None
    roots = found.submodule_search_locations if found else None
    places = [Path(root) / folder for root in roots or ()]
    if not places:
        raise UserError(
            f"{name}: the Python package {package} is not installed where Snakemake runs; `make install` brings those of"
            " the dependency group `real`, another is yours to install there"
        )
    for place in places:
        if place.is_dir():
            return place
    raise UserError(f"{name}: the package {package} has no folder {folder!r}; correct text.encoder")


def package_files(name: str) -> list[Path]:
    """Those of a package's files that a BERT consists of.

    Raises:
        UserError: there is no such folder, or it lacks one of them.
    """
    folder = package_folder(name)
    if absent := lacking(folder):
        raise UserError(f"{name}: no {absent} in it; name a folder with a BERT")
    return [folder / file for file in files_read(folder)]
