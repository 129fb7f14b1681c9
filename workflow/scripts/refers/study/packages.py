"""Files of a BERT inside an installed Python package, which a config names as package:PACKAGE/FOLDER. No torch."""

from importlib.util import find_spec
from pathlib import Path

from refers.config.study import PACKAGE
from refers.errors import UserError

# what transformers reads of a folder: the first three, with alternatives, it cannot do without
NEEDED = ("config.json", "model.safetensors", "vocab.txt|tokenizer.json")
READ = (
    *("config.json", "model.safetensors", "vocab.txt", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)


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
    for wanted in NEEDED:
        if not any((folder / part).is_file() for part in wanted.split("|")):
            raise UserError(f"{name}: no {wanted.replace('|', ' or ')} in it; name a folder with a BERT")
    return [path for file in READ if (path := folder / file).is_file()]
