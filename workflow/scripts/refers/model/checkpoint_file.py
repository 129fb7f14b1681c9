"""The network in a checkpoint file of other people's programs, by its own names.

Programs wrap what they save: in dicts (`state_dict`, `model`, DINO's `teacher` and `student`), in names of modules
around the network (`module.`, `model.`, `backbone.`), and in names that torch.compile, FSDP and activation checkpointing
put anywhere. All are prefixes of a tensor's dotted name here. The network stands below the prefix where names of the
wanted layout are found; what the file holds beside it is listed, and of several networks the caller chooses by a key.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from refers.array_files import one_line, read_npz, read_safetensors, read_torch
from refers.errors import UserError

NPZ = ".npz"
WHAT, REMEDY = "not a checkpoint in npz, safetensors or torch's format", "download it again"
# Words around a network that say nothing about it.
WRAPPERS = frozenset(
    (
        *("state_dict", "model_state_dict", "model_state", "model", "module", "_module", "net", "network"),
        *("backbone", "trunk", "encoder", "base_encoder", "image_encoder", "feature_extractor", "bert"),
        *(
            "student",
            "teacher",
            "encoder_q",
            "encoder_k",
            "momentum_encoder",
            "online_encoder",
            "target_encoder",
        ),
        *(
            "ema",
            "model_ema",
            "ema_model",
            "state_dict_ema",
            "ema_state_dict",
            "model_state_dict_ema",
            "module_ema",
        ),
        *("teacher_ema", "swa_model", "averaged_model"),
    )
)
# Of weights averaged over a training, which stand beside those of its last step.
# Names of the two sides of a network of images and text, and of the trained one of two.
PARTS = re.compile(r"(^|_)(visual|vision|image|img|online)(_|$)")
AVERAGED = re.compile(r"(^|_)(ema|swa|averaged)(_|$)")
# Put around any part of a network, anywhere in a name, by torch.compile, FSDP, activation checkpointing and DeepSpeed.
TRANSPARENT = frozenset(
    ("_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module")
)
ROOT = "."
DEEPEST = 8
KEY = "checkpoint_key"
KEYED = f"set {KEY} to the one that is meant"
ALONE = "save that network's tensors alone"


class Network(NamedTuple):
    """The tensors of one network in a file.

    tensors: in fp32, by the network's own names.
    outside: what stands beside it in its state dict, such as a head or a loss, by whole names.
    stripped: the words that were taken off the names, in the file's order.
    others: places of further networks of the same layout.
    """

    tensors: dict[str, Tensor]
    outside: dict[str, Tensor]
    stripped: list[str]
    others: list[str]


def read_network(
    source: str, layouts: Collection[Collection[str]], key: str | None = None, has_key: bool = True
) -> Network:
    """The network of one of these layouts in a checkpoint file.

    Args:
        source: a file in npz, safetensors or torch's format, read without executing pickles.
        layouts: each the names of tensors by which a network is known.
        key: words of the place of the network that is meant, such as `teacher`, where a file has several.
        has_key: whether the config has such a key for this file, to be named in messages.

    Raises:
        UserError: the file is missing, damaged, in another format or holds no tensors by name; or it has several networks
            that differ and no key says which, or none at the key.
    """
    content = read_content(source)
    tensors, maps = _flat(content, source)
    if not tensors:
        alone = ", but the state of an optimiser" if _has_optimiser(content) else ""
        raise UserError(f"{source}: holds no weights{alone}; use a checkpoint of a network")
    tensors, removed = _without_transparent(tensors, source)
    places = _places(tensors, layouts)
    place, others = _choose(places, tensors, source, key, KEYED if has_key else ALONE)
    if place is None:
        place = _best_guess(tensors, maps)
    found = _at(place, others, tensors, maps, removed)
    return found._replace(tensors=as_floats(found.tensors, source))


def read_content(source: str) -> Any:
    """What a checkpoint file holds, as its program arranged it.

    Raises:
        UserError: the file is missing, damaged or in another format.
    """
    path = Path(source)
    if path.suffix == NPZ:
        arrays = read_npz(path, WHAT, REMEDY)
        with one_line(path, WHAT, REMEDY):
            return {name: torch.from_numpy(array) for name, array in arrays.items()}
    with one_line(path, WHAT, REMEDY):
        return read_safetensors(path)[0] if path.suffix == ".safetensors" else read_torch(path)


def as_floats(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors in fp32.

    Raises:
        UserError: one is complex, quantised, sparse or without numbers.
    """
    for name, tensor in tensors.items():
        # Whole numbers of 8 or 16 bits are codes of quantised weights; those of 64 count or index.
        codes = tensor.dtype in (torch.int8, torch.uint8, torch.int16, torch.uint16)
        plain = tensor.layout == torch.strided and not (
            tensor.is_complex() or tensor.is_quantized or tensor.is_meta or codes
        )
        if not plain:
            raise UserError(f"{source}: {name} is not a plain tensor of real numbers; save it as one")
    return {name: tensor.detach().float() for name, tensor in tensors.items()}


def _has_optimiser(content: Mapping) -> bool:
    return any("param_groups" in each for each in (content, *content.values()) if isinstance(each, Mapping))


def _flat(content: Any, source: str) -> tuple[dict[str, Tensor], set[str]]:
    """Tensors by dotted name, and the dotted names of the dicts that hold them; states of optimisers are left out."""
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise UserError(f"{source}: holds a {kind}, not tensors by name; save a state_dict()")
    tensors: dict[str, Tensor] = {}
    maps: set[str] = set()
    waiting: list[tuple[str, int, Mapping]] = [("", 0, content)]
    while waiting:
        prefix, depth, found = waiting.pop(0)
        if "param_groups" in found:
            continue
        for key, value in found.items():
            word = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
            if not isinstance(word, str):
                continue
            if isinstance(value, Tensor):
                if prefix + word in tensors:
                    raise UserError(
                        f"{source}: has two tensors named {prefix + word}; save a state_dict() alone"
                    )
                tensors[prefix + word] = value
            elif isinstance(value, Mapping) and depth < DEEPEST:
                maps.add(f"{prefix}{word}.")
                waiting.append((f"{prefix}{word}.", depth + 1, value))
    return tensors, maps


def _without_transparent(tensors: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without the words that may stand anywhere, and these words."""
    found: dict[str, Tensor] = {}
    removed: list[str] = []
    for name, tensor in tensors.items():
        words = name.split(".")
        plain = ".".join(word for word in words if word not in TRANSPARENT)
        removed += [word for word in words if word in TRANSPARENT and word not in removed]
        if plain in found:
            raise UserError(f"{source}: has {plain} twice, as itself and wrapped; save a state_dict() alone")
        found[plain] = tensor
    return found, removed


def _places(tensors: dict[str, Tensor], layouts: Collection[Collection[str]]) -> list[str]:
    """The prefixes below which at least half of the names of the first layout that there is are found, in the file's order."""
    for layout in map(frozenset, layouts):
        counts: Counter[str] = Counter()
        for name in tensors:
            words = name.split(".")
            for start in range(len(words)):
                if ".".join(words[start:]) in layout:
                    counts["".join(f"{word}." for word in words[:start])] += 1
        if found := [place for place, count in counts.items() if 2 * count >= len(layout)]:
            return found
    return []


def _choose(
    places: list[str], tensors: dict[str, Tensor], source: str, key: str | None, remedy: str
) -> tuple[str | None, list[str]]:
    """The place of the network that is meant, None where none is known, and all other places."""
    if key:
        chosen = [place for place in places if _has(place, key)]
        if not chosen:
            known = f"it has {_names(places)}" if places else "it has none of this architecture"
            raise UserError(f"{source}: no network at {KEY} {key!r}; {known}")
    else:
        chosen = [place for place in places if all(word in WRAPPERS for word in _words(place))]
        if places and not chosen:
            raise UserError(f"{source}: its network stands at {_names(places)}; {remedy}")
    last = [place for place in chosen if not any(map(AVERAGED.search, _words(place)))]
    chosen = last or chosen
    # Behind a word that says which of several networks it is, such as `visual`, may be the one that is meant.
    rivals = [] if key else [place for place in places if any(map(PARTS.search, _words(place)))]
    differing = [place for place in [*chosen[1:], *rivals] if not _equal(tensors, chosen[0], place)]
    if differing:
        raise UserError(
            f"{source}: has several networks, {_names([chosen[0], *dict.fromkeys(differing)])}; {remedy}"
        )
    if not chosen:
        return None, []
    return chosen[0], [place for place in places if place != chosen[0]]


def _words(place: str) -> list[str]:
    return place.split(".")[:-1]


def _names(places: list[str]) -> str:
    return " or ".join(repr(place[:-1] or ROOT) for place in places)


def _has(place: str, key: str) -> bool:
    """Whether a place has the words of a key, one after the other; `.` is the file itself."""
    if key == ROOT:
        return not place
    return f".{key}." in f".{place}"


def _equal(tensors: dict[str, Tensor], one: str, other: str) -> bool:
    """Whether the networks at two places are the same numbers."""
    ours, theirs = (
        {name[len(at) :]: tensors[name] for name in tensors if name.startswith(at)} for at in (one, other)
    )
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _best_guess(tensors: dict[str, Tensor], maps: set[str]) -> str:
    """The place of a network of another layout, so that what is wrong with it can be said by its names."""
    place = ""
    while True:
        below = [name[len(place) :].split(".")[0] for name in tensors if name.startswith(place)]
        word, count = Counter(below).most_common(1)[0]
        # A dict is entered where it holds most tensors, a name taken off where all share it.
        enough = 2 * count >= len(below) if f"{place}{word}." in maps else count == len(below)
        if word not in WRAPPERS or not enough:
            return place
        place += f"{word}."


def _at(
    place: str, others: list[str], tensors: dict[str, Tensor], maps: set[str], removed: list[str]
) -> Network:
    """The network at a place, with what its innermost dict holds beside it and no other network."""
    around = max((each for each in maps if place.startswith(each)), key=len, default="")
    apart = tuple(each for each in others if not place.startswith(each))
    near = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(around) and not (apart and name.startswith(apart))
    }
    inside = {name[len(place) :]: near[name] for name in near if name.startswith(place)}
    outside = {name[len(around) :]: near[name] for name in near if not name.startswith(place)}
    return Network(inside, outside, [*_words(place), *removed], [each[:-1] or ROOT for each in others])
