"""Checkpoints as other programs save, wrap and damage them: the same network, or one line that says what is wrong."""

import argparse
import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from generate_checkpoint import random_arrays
from helpers import PLAIN_VIT
from refers import config
from refers.data.mimic_studies import _read_tokens
from refers.data.store import open_store
from refers.evaluation.probe import open_features
from refers.methods.refers import Settings
from refers.model.encoder_file import read_encoder, save_encoder
from refers.model.encoders import build_encoder, load_encoder
from refers.model.import_checkpoint import import_encoder
from refers.provenance.ties import digest_of
from refers.training.resume import load_state, save_state
from safetensors.torch import save_file
from torch import Tensor

from field import Case, refused

VIT = PLAIN_VIT.replace(input=config.InputStatistics(mean=(0.5,) * 3, std=(0.5,) * 3))
RESNET = config.ResNet(architecture="resnet18", image_size=32)
Tensors = dict[str, Tensor]


@cache
def vit(seed: int = 0) -> Tensors:
    """A plain vision transformer in timm's layout, without a classifier."""
    import timm

    torch.manual_seed(seed)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}
    return dict(timm.create_model("vit_tiny_patch16_224", pretrained=False, **sizes).state_dict())


@cache
def resnet(seed: int = 0) -> Tensors:
    from torchvision.models import resnet18

    torch.manual_seed(seed)
    return dict(resnet18(weights=None).state_dict())


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def compiled_blocks(tensors: Tensors) -> Tensors:
    """Every block compiled, wrapped by FSDP and checkpointed for itself, as large models are trained."""
    inner = "_fsdp_wrapped_module._orig_mod._checkpoint_wrapped_module."
    return {
        ".".join([*name.split(".")[:2], inner + ".".join(name.split(".")[2:])])
        if name.startswith("blocks.")
        else name: t
        for name, t in tensors.items()
    }


OPTIMISER = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
HEAD = {"head.mlp.0.weight": torch.ones(2, 48), "head.last_layer.weight_v": torch.ones(2, 2)}


class Given(NamedTuple):
    """What `imported` imports."""

    source: str
    settings: config.Model = VIT
    key: str | None = None


def torch_file(
    content: Callable[[], Any], key: str | None = None, settings: config.Model = VIT, **options: Any
) -> Callable[[Path], Given]:
    def make(folder: Path) -> Given:
        torch.save(content(), folder / "net.pth", **options)
        return Given(str(folder / "net.pth"), settings, key)

    return make


def safetensors_file(content: Callable[[], Tensors]) -> Callable[[Path], Given]:
    def make(folder: Path) -> Given:
        tensors = {name: tensor.clone().contiguous() for name, tensor in content().items()}
        save_file(tensors, folder / "net.safetensors")
        return Given(str(folder / "net.safetensors"))

    return make


def written(content: bytes, name: str = "net.pth") -> Callable[[Path], Given]:
    def make(folder: Path) -> Given:
        (folder / name).write_bytes(content)
        return Given(str(folder / name))

    return make


def imported(given: Given) -> tuple[Tensors, dict]:
    encoder, report = import_encoder(given.settings, given.source, given.key)
    return encoder.state_dict(), report


@cache
def reference(kind: str, seed: int) -> Tensors:
    """The same network from a plain file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        make = (
            torch_file(lambda: vit(seed))
            if kind == "vit"
            else torch_file(lambda: resnet(seed), settings=RESNET)
        )
        return imported(make(Path(folder)))[0]


def is_network(
    *stripped: str,
    others: tuple[str, ...] = (),
    left_out: int = 0,
    seed: int = 0,
    kind: str = "vit",
    close: bool = False,
) -> Callable[[tuple], None]:
    """Expectation: the weights of a seed, and what the report says was stripped, left out and stands beside it."""

    def check(found: tuple[Tensors, dict]) -> None:
        state, report = found
        wanted = reference(kind, seed)
        assert state.keys() == wanted.keys()
        for name in wanted:
            same = (
                torch.allclose(state[name], wanted[name], atol=2e-3)
                if close
                else torch.equal(state[name], wanted[name])
            )
            assert same, name
        assert report.get("stripped", []) == list(stripped)
        assert report.get("others", []) == list(others)
        assert len(report["left_out"]) == left_out
        assert report["read"] == report["loaded"] + left_out

    return check


WRAPPED = {
    "torch.compile": (lambda: under("_orig_mod.", vit()), is_network("_orig_mod")),
    "DDP around torch.compile": (lambda: under("module._orig_mod.", vit()), is_network("module", "_orig_mod")),
    "DDP twice": (lambda: under("module.module.", vit()), is_network("module", "module")),
    "a part compiled": (lambda: {"model": under("backbone._orig_mod.", vit())}, is_network("model", "backbone", "_orig_mod")),
    "FSDP": (lambda: under("_fsdp_wrapped_module.", vit()), is_network("_fsdp_wrapped_module")),
    "every block wrapped": (lambda: compiled_blocks(vit()), is_network("_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module")),
    "model.": (lambda: under("model.", vit()), is_network("model")),
    "backbone.": (lambda: under("backbone.", vit()), is_network("backbone")),
    "encoder.": (lambda: {"state_dict": under("encoder.", vit())}, is_network("state_dict", "encoder")),
    "nested dicts": (lambda: {"checkpoint_epoch": 3, "model": {"state_dict": under("module.", vit())}}, is_network("model", "state_dict", "module")),
    "DINO's teacher": (lambda: {"teacher": under("backbone.", vit()) | HEAD, "epoch": 3}, is_network("teacher", "backbone", left_out=2)),
    "Lightning": (
        lambda: {"epoch": 3, "state_dict": under("model.", vit()) | {"criterion.weight": torch.ones(3)}, "optimizer_states": [OPTIMISER], "loops": {}},
        is_network("state_dict", "model", left_out=1),
    ),
    "an averaged model of torch": (lambda: under("module.", vit()) | {"n_averaged": torch.tensor(7)}, is_network("module", left_out=1)),
    "an optimiser beside it": (lambda: {"net": vit(), "optimizer": OPTIMISER}, is_network("net")),
    "a Namespace beside it": (lambda: {"model": vit(), "args": argparse.Namespace(lr=1)}, is_network("model")),
    "weights of an average alone": (lambda: {"model_ema": vit(), "epoch": 3}, is_network("model_ema")),
    "an average beside it": (lambda: {"state_dict": vit(), "state_dict_ema": vit(1)}, is_network("state_dict", others=("state_dict_ema",))),
    "an average in timm's form": (lambda: {"model": vit(), "model_ema": under("module.", vit(1))}, is_network("model", others=("model_ema.module",))),
    "an average in the same dict": (lambda: under("model.", vit()) | under("ema_model.", vit(1)), is_network("model", others=("ema_model",))),
    "the same network twice": (lambda: {"model": vit(), "state_dict": dict(vit())}, is_network("model", others=("state_dict",))),
    "names in bytes": (lambda: {name.encode(): tensor for name, tensor in vit().items()}, is_network()),
    "half precision": (lambda: {name: tensor.half() for name, tensor in vit().items()}, is_network(close=True)),
    "bfloat16": (lambda: {name: tensor.bfloat16() for name, tensor in vit().items()}, is_network(close=True)),
    "double precision": (lambda: {name: tensor.double() for name, tensor in vit().items()}, is_network()),
    "parameters": (lambda: OrderedDict((name, torch.nn.Parameter(t)) for name, t in vit().items()), is_network()),
    "views of one storage": (lambda: in_one_storage(vit()), is_network()),
    "NumPy's scalars beside it": (
        lambda: {"model": vit(), "best": np.float64(0.5), "epoch": np.int64(3), "done": np.bool_(True)},
        is_network("model"),
    ),
}  # fmt: skip


def in_one_storage(tensors: Tensors) -> Tensors:
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}


def spoilt(name: str, change: Callable[[Tensor], Tensor | None]) -> Callable[[], Tensors]:
    """The network with one tensor changed, or removed where the change gives none."""

    def make() -> Tensors:
        changed = change(vit()[name].clone())
        return {key: tensor for key, tensor in (vit() | {name: changed}).items() if tensor is not None}

    return make


def with_one(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[3] = value
        return tensor

    return change


def overflowing() -> Tensors:
    tensors = vit() | {"norm.weight": torch.full((48,), 1e6)}
    return {name: tensor.half() for name, tensor in tensors.items()}


class Config(dict):
    """Stands for the config objects of other libraries, such as OmegaConf's."""


def npz(
    change: Callable[[bytes], bytes] = lambda content: content, **arrays: np.ndarray
) -> Callable[[Path], Given]:
    """Google's layout, changed."""

    def make(folder: Path) -> Given:
        np.savez(folder / "ViT-B_16.npz", **random_arrays(VIT, seed=0) | arrays)
        (folder / "ViT-B_16.npz").write_bytes(change((folder / "ViT-B_16.npz").read_bytes()))
        return Given(str(folder / "ViT-B_16.npz"), VIT.replace(input=None))

    return make


def script(folder: Path) -> Given:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(folder / "net.pt"))
    return Given(str(folder / "net.pt"))


def flipped_weights(folder: Path) -> Given:
    """One bit of a weight, which torch itself does not notice."""
    given = torch_file(vit)(folder)
    path = Path(given.source)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    return given


def without_checksums(folder: Path) -> Given:
    torch.serialization.set_crc32_options(False)
    try:
        return torch_file(vit)(folder)
    finally:
        torch.serialization.set_crc32_options(True)


ALONE = "torch.save("
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
OBJECT = np.array([{}], dtype=object)
REFUSED = {
    "student and teacher": (torch_file(lambda: {"student": under("module.backbone.", vit()), "teacher": under("backbone.", vit(1))}), ("student", "teacher", "checkpoint_key")),
    "two sides of a network": (torch_file(lambda: under("visual.", vit()) | under("encoder.", vit(1))), ("visual", "encoder", "checkpoint_key")),
    "query and key encoders": (torch_file(lambda: under("module.encoder_q.", vit()) | under("module.encoder_k.", vit(1))), ("encoder_q", "encoder_k", "checkpoint_key")),
    "a place of another name": (torch_file(lambda: under("my_tower.", vit())), ("my_tower", "checkpoint_key")),
    "a key of no network": (torch_file(lambda: {"model": vit()}, key="teacher"), ("teacher", "model")),
    "an object inside a Namespace": (torch_file(lambda: {"model": vit(), "args": argparse.Namespace(cfg=Config(lr=1))}), ("field.checkpoints.Config", ALONE)),
    "a config object beside it": (torch_file(lambda: {"model": vit(), "cfg": Config(lr=1)}), ("field.checkpoints.Config", ALONE)),
    "a path beside it": (torch_file(lambda: {"model": vit(), "where": Path("x")}), ("pathlib", ALONE)),
    "a whole module": (torch_file(lambda: torch.nn.Linear(2, 2)), ("Linear", ALONE)),
    "a TorchScript program": (script, ("TorchScript", "state_dict()")),
    "an empty state dict": (torch_file(dict), ("no weights",)),
    "an optimiser alone": (torch_file(lambda: {"optimizer": OPTIMISER, "epoch": 3}), ("no weights", "optimiser")),
    "a bare optimiser": (torch_file(lambda: OPTIMISER), ("no weights", "optimiser")),
    "a tensor": (torch_file(lambda: torch.zeros(3)), ("Tensor", "state_dict()")),
    "a list": (torch_file(lambda: [torch.zeros(3)]), ("list", "state_dict()")),
    "one tensor bare and wrapped": (torch_file(lambda: vit() | {"_orig_mod.norm.bias": torch.zeros(48)}), ("norm.bias", "twice")),
    "NaN": (torch_file(spoilt("norm.weight", with_one(float("nan")))), ("norm.weight", "non-finite")),
    "Inf in safetensors": (safetensors_file(spoilt("norm.weight", with_one(float("inf")))), ("norm.weight", "non-finite")),
    "an overflow of half precision": (torch_file(overflowing), ("norm.weight", "non-finite")),
    "an overflow of double precision": (torch_file(spoilt("norm.bias", lambda t: t.double() + 1e300)), ("norm.bias", "non-finite")),
    "NaN in an npz": (npz(**{"Transformer/encoder_norm/bias": np.full(48, np.nan, np.float32)}), ("norm.bias", "non-finite")),
    "a complex tensor": (torch_file(spoilt("norm.bias", lambda t: t.to(torch.complex64))), ("norm.bias", "real")),
    "a sparse tensor": (torch_file(spoilt("norm.bias", lambda t: t.to_sparse())), ("norm.bias", "plain")),
    "two class tokens": (torch_file(lambda: vit() | {"cls_token": torch.ones(1, 2, 48)}), ("cls_token",)),
    "two sets of positions": (torch_file(lambda: vit() | {"pos_embed": torch.ones(2, 17, 48)}), ("pos_embed",)),
    "the position of the class alone": (torch_file(lambda: vit() | {"pos_embed": torch.ones(1, 1, 48)}), ("pos_embed",)),
    "no position at all": (torch_file(lambda: vit() | {"pos_embed": torch.ones(1, 0, 48)}), ("pos_embed",)),
    "quantised codes": (torch_file(lambda: {name: t.to(torch.int8) for name, t in vit().items()}), ("plain tensor",)),
    "positions without a batch axis": (torch_file(spoilt("pos_embed", lambda t: t[0])), ("pos_embed", "2 axes")),
    "positions in a square": (torch_file(spoilt("pos_embed", lambda t: t[:, 1:].reshape(1, 4, 4, 48))), ("pos_embed", "4 axes")),
    "a class token without axes": (torch_file(spoilt("cls_token", lambda t: t[0, 0])), ("cls_token", "1 axes")),
    "a flat kernel": (torch_file(spoilt("patch_embed.proj.weight", lambda t: t.flatten(1))), ("patch_embed.proj.weight", "2 axes")),
    "positions of another width": (torch_file(spoilt("pos_embed", lambda t: t[..., :40])), ("pos_embed", "width of 40")),
    "no positions": (torch_file(spoilt("pos_embed", lambda t: None)), ("lacks pos_embed",)),
    "a git-lfs pointer": (written(LFS), ("git-lfs",)),
    "a git-lfs pointer of safetensors": (written(LFS, "net.safetensors"), ("git-lfs",)),
    "a git-lfs pointer of an npz": (written(LFS, "net.npz"), ("git-lfs",)),
    "an HTML page": (written(b"\n<!DOCTYPE html><html></html>"), ("HTML",)),
    "an empty file": (written(b"", "net.safetensors"), ("empty",)),
    "a flipped bit of a weight": (flipped_weights, ("damaged", "net.pth")),
    "an npz cut in the middle": (npz(lambda content: content[: len(content) // 2]), ("ViT-B_16.npz", "damaged")),
    "an npz with a flipped bit": (npz(lambda content: content[:50_000] + bytes([content[50_000] ^ 1]) + content[50_001:]), ("ViT-B_16.npz", "checksum")),
    "an npz of objects": (npz(cls=OBJECT), ("ViT-B_16.npz",)),
    "an npz without an axis": (npz(**{"Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel": np.float32(1)}), ("ViT-B_16.npz",)),
    "a missing file": (lambda folder: Given(str(folder / "net.pth")), ("net.pth", "no such file")),
    "a folder": (lambda folder: Given(str(folder)), ("regular",)),
}  # fmt: skip

CHOSEN = {
    "teacher": (lambda: {"student": under("module.backbone.", vit()), "teacher": under("backbone.", vit(1))}, is_network("teacher", "backbone", others=("student.module.backbone",), seed=1)),
    "state_dict_ema": (lambda: {"state_dict": vit(), "state_dict_ema": vit(1)}, is_network("state_dict_ema", others=("state_dict",), seed=1)),
    "encoder_k": (lambda: under("module.encoder_q.", vit()) | under("module.encoder_k.", vit(1)), is_network("module", "encoder_k", others=("module.encoder_q",), seed=1)),
    "my_tower": (lambda: under("my_tower.", vit(1)) | {"text.weight": torch.ones(2)}, is_network("my_tower", left_out=1, seed=1)),
    ".": (lambda: vit(1) | under("teacher.", vit()), is_network(others=("teacher",), seed=1)),
}  # fmt: skip

RESNETS = {
    "Lightning": (lambda: {"state_dict": under("model.", resnet())}, is_network("state_dict", "model", kind="resnet", left_out=2)),
    "compiled": (lambda: under("module._orig_mod.", resnet()), is_network("module", "_orig_mod", kind="resnet", left_out=2)),
    "an average beside it": (
        lambda: {"state_dict": resnet(), "state_dict_ema": resnet(1)},
        is_network("state_dict", kind="resnet", left_out=2, others=("state_dict_ema",)),
    ),
}  # fmt: skip


# ---- files of this pipeline


def encoder_file(folder: Path, seed: int = 0, name: str = "encoder.safetensors") -> Path:
    torch.manual_seed(seed)
    save_encoder(folder / name, build_encoder(VIT.replace(input=None)), {"method": "m"})
    return folder / name


def flipped_encoder(at: Callable[[bytes], int]) -> Callable[[Path], Path]:
    """One bit of an encoder's file."""

    def make(folder: Path) -> Path:
        path = encoder_file(folder)
        content = bytearray(path.read_bytes())
        content[at(bytes(content))] ^= 1
        path.write_bytes(content)
        return path

    return make


def nan_encoder(folder: Path) -> Path:
    encoder = build_encoder(VIT.replace(input=None))
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[0] = float("nan")
    save_encoder(folder / "encoder.safetensors", encoder, {})
    return folder / "encoder.safetensors"


def moved_encoder(folder: Path) -> Path:
    """Another encoder under the run.json of this one."""
    from refers.files import file_digest

    path = encoder_file(folder)
    (folder / "run.json").write_text(
        json.dumps(
            {
                "script": "pretrain.py",
                "settings": {},
                "seed": 0,
                "inputs": {},
                "outputs": {"encoder": file_digest(path)},
            }
        )
    )
    return encoder_file(folder, seed=1)


def alone(folder: Path) -> Path:
    return encoder_file(folder)


def earlier_format(folder: Path) -> Path:
    """As versions wrote it that had two keys and no digest."""
    encoder = build_encoder(VIT.replace(input=None))
    about = {"settings": json.dumps(config.to_dict(encoder.settings)), "about": json.dumps({"method": "m"})}
    save_file(dict(encoder.state_dict()), folder / "e.safetensors", about)
    return folder / "e.safetensors"


def flipped_state(folder: Path) -> Path:
    save_state(folder / "resume.pt", "print", {"weights": torch.zeros(50_000)})
    content = bytearray((folder / "resume.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "resume.pt").write_bytes(content)
    return folder / "resume.pt"


def resumed(path: Path) -> tuple:
    return load_state(path, "print"), path.exists(), path.with_suffix(".refused.damaged.pt").exists()


OWN = [
    Case("an encoder", encoder_file, lambda path: read_encoder(path)[2], {"method": "m"}),
    Case("an encoder of an earlier version", earlier_format, lambda path: load_encoder(path)[1], {"method": "m"}),
    Case("an encoder with a flipped weight", flipped_encoder(lambda content: len(content) - 1000), load_encoder, refused("damaged", "digest")),
    Case("an encoder with a flipped setting", flipped_encoder(lambda content: content.index(b"image_size") + 14), load_encoder, refused("damaged", "digest")),
    Case("an encoder with NaN", nan_encoder, load_encoder, refused("encoder.safetensors", "non-finite")),
    Case("another encoder under its record", moved_encoder, lambda path: digest_of(path, "encoder"), refused("encoder.safetensors", "run.json")),
    Case("an encoder without a record", alone, lambda path: len(digest_of(path, "encoder")), 64),
    Case("a resume state with a flipped bit", flipped_state, resumed, (None, False, True)),
    Case("weights of REFERS' losses at 0", lambda folder: {"generation": 0.0, "image_to_text": 0.0}, lambda given: config.load(Settings, given, "m"), refused("loss")),
    Case("a detached loss alone", lambda folder: {"generation": 0.0, "image_to_text": 0.0, "text_to_image": 1.0}, lambda given: config.load(Settings, given, "m"), refused("detached")),
]  # fmt: skip


# ---- advice of libraries

UNSAFE = ("allow_pickle", "weights_only", "trust_remote_code", "safe_globals", "pickle")
READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "checkpoint": (lambda path: imported(Given(str(path))), "net.pth"),
    "npz": (lambda path: imported(Given(str(path))), "net.npz"),
    "safetensors": (lambda path: imported(Given(str(path))), "net.safetensors"),
    "encoder": (read_encoder, "encoder.safetensors"),
    "image store": (open_store, "images.npy"),
    "features": (open_features, "features.npy"),
    "tokens": (_read_tokens, "tokens.npz"),
}


def objects_as(name: str) -> Callable[[Path], Path]:
    """A file of Python objects under a name."""

    def make(folder: Path) -> Path:
        path = folder / name
        with open(path, "wb") as opened:
            if path.suffix == ".npy":
                np.save(opened, OBJECT)
            elif path.suffix == ".npz":
                names = ("study_id", "tokens", "swapped", "lengths", "vocabulary", "cls")
                np.savez(opened, **dict.fromkeys(names, OBJECT))
            else:
                torch.save({"weight": Config()}, opened)
        return path

    return make


def bare_pickle_as(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import pickle

        (folder / name).write_bytes(pickle.dumps({"weight": Config()}))
        return folder / name

    return make


def message_of(read: Callable[[Any], Any]) -> Callable[[Path], str]:
    from refers.errors import UserError

    def tried(path: Path) -> str:
        try:
            read(path)
        except UserError as error:
            return str(error)
        raise AssertionError("read")

    return tried


def names_it_and_advises_nothing_unsafe(message: str) -> None:
    assert len(message.splitlines()) == 1
    assert not [word for word in UNSAFE if word in message], message


ADVICE = [
    Case(f"{content} as {kind}", make(name), message_of(read), names_it_and_advises_nothing_unsafe)
    for kind, (read, name) in READERS.items()
    for content, make in (("objects", objects_as), ("a bare pickle", bare_pickle_as))
]

CASES = [
    *(Case(f"wrapped: {name}", torch_file(content), imported, expect) for name, (content, expect) in WRAPPED.items()),
    *(Case(f"chosen: {key}", torch_file(content, key), imported, expect) for key, (content, expect) in CHOSEN.items()),
    *(Case(f"ResNet: {name}", torch_file(content, settings=RESNET), imported, expect) for name, (content, expect) in RESNETS.items()),
    Case("wrapped names in safetensors", safetensors_file(lambda: under("model.backbone.", vit())), imported, is_network("model", "backbone")),
    Case("torch's format of old", torch_file(lambda: {"model": vit()}, _use_new_zipfile_serialization=False), imported, is_network("model")),
    Case("a file without checksums", without_checksums, imported, is_network()),
    *(Case(f"refused: {name}", make, imported, refused(*words)) for name, (make, words) in REFUSED.items()),
    *OWN,
    *ADVICE,
]  # fmt: skip
