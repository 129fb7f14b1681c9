"""Encoders on disk: safetensors with their architecture and a digest of it all as metadata, loaded strictly.

The format has no checksums of its own. Its library writes the keys of the metadata in another order every time, so there
is one, and equal encoders are equal files.
"""

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from refers import config
from refers.array_files import one_line, read_safetensors
from refers.errors import UserError
from refers.files import atomic_path
from refers.model.vit import Encoder

# The key of an encoder's metadata.
RECORD = "encoder"
REMAKE = "delete it and rerun"


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Load `tensors` into `module`; every key and shape must match, and every number be finite.

    Raises:
        UserError: lists missing, unexpected and mismatched keys, or names a tensor with NaN or Inf.
    """
    wanted = module.state_dict()
    mismatched = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & tensors.keys())
        if tensors[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "wrong shape": mismatched,
    }
    if any(problems.values()):
        report = "; ".join(
            f"{len(keys)} {word}: {', '.join(keys[:4])}{' ...' * (len(keys) > 4)}"
            for word, keys in problems.items()
            if keys
        )
        raise UserError(f"{origin}: does not fit the model ({report}); use a checkpoint of this architecture")
    check_finite(tensors, origin)
    module.load_state_dict(tensors)


def check_finite(tensors: dict[str, Tensor], origin: str) -> None:
    """Refuse weights that are NaN or Inf, which no training recovers from.

    Raises:
        UserError: names the first such tensor.
    """
    for name, tensor in tensors.items():
        # A sum is NaN or Inf wherever one of its terms is, and takes a tenth of the time; it may also overflow by itself.
        if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
            raise UserError(f"{origin}: {name} has non-finite weights (NaN or Inf); use another checkpoint")


def save_encoder(target: Path, encoder: Encoder, about: dict) -> None:
    """Write an encoder in fp32 with, as metadata, the settings that rebuild it, `about`, its origin, and a digest."""
    # Copies: safetensors refuses tensors that share memory.
    tensors = {
        name: tensor.detach().cpu().float().clone().contiguous()
        for name, tensor in encoder.state_dict().items()
    }
    facts = {"settings": config.to_dict(encoder.settings), "about": about}
    record = json.dumps(facts | {"sha256": _digest(tensors, facts)}, sort_keys=True)
    with atomic_path(target) as path, as_os_error():
        save_file(tensors, path, {RECORD: record})


def read_encoder(source: str | Path) -> tuple[dict[str, Tensor], dict, dict]:
    """Tensors, architecture settings and `about` of an encoder file.

    Raises:
        UserError: the file is missing or damaged, is not safetensors, or has no settings.
    """
    with one_line(source, "cannot be read as an encoder", REMAKE):
        tensors, metadata = read_safetensors(source)
        facts = read_record(metadata)
    if facts is None:
        raise UserError(f"{source}: has no architecture settings; use an encoder written by this pipeline")
    known = facts.pop("sha256", "")
    if known is not None and known != _digest(tensors, facts):
        raise UserError(f"{source}: damaged, it differs from the digest inside it; {REMAKE}")
    return tensors, facts["settings"], facts["about"]


def read_record(metadata: dict[str, str]) -> dict | None:
    """What the metadata of a safetensors file say of an encoder; None where it is not one of this pipeline."""
    if RECORD in metadata:
        return json.loads(metadata[RECORD])
    # Earlier versions wrote two keys and no digest.
    if "settings" in metadata:
        settings, about = json.loads(metadata["settings"]), json.loads(metadata.get("about", "{}"))
        return {"settings": settings, "about": about, "sha256": None}
    return None


def _digest(tensors: dict[str, Tensor], facts: dict) -> str:
    """SHA-256 of names, types, shapes and bytes of tensors, and of facts about them."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name].numpy()
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array)
    return found.hexdigest()


def load_start(encoder: Encoder, source: Path) -> None:
    """Initialise an encoder from another one's file.

    Raises:
        UserError: as `read_encoder`; or the weights do not fit, or would compute something else in this encoder.
    """
    tensors, settings, _ = read_encoder(source)
    found = config.load_model(settings, str(source))
    if differs := config.mismatch(config.to_dict(encoder.settings), config.to_dict(found)):
        raise UserError(f"{source}: has {differs}; set pretrain.model as it is there, or init: scratch")
    load_strictly(encoder, tensors, str(source))


@contextmanager
def as_os_error() -> Generator[None]:
    """Turn the errors by which torch and safetensors report a full disk into OSError."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(str(error).splitlines()[0]) from None
