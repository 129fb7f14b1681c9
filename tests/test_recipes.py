"""Recipes: encoders of others, from files in their programs' own layouts, give the features of these programs.

Weights are random and the networks small; their layouts, options and inputs are those of config/recipes.
"""

import re
from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from helpers import ROOT
from refers import config
from refers.config.read import read_files, read_settings
from refers.errors import UserError
from refers.model.encoders import build_encoder
from refers.model.import_checkpoint import import_encoder
from refers.model.layers import MEAN, STD
from refers.study.check import check
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import resnet50
from torchvision.transforms import Normalize
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel

RECIPES = sorted((ROOT / "config/recipes").glob("*.yaml"))
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}


def entry(name):
    """The only method of a recipe."""
    (method,) = read_settings(ROOT / f"config/recipes/{name}.yaml")["methods"].values()
    return method


def settings_of(recipe, **changes):
    """The model of a recipe, with smaller options where it is one of timm."""
    model = dict(entry(recipe)["model"]) | changes
    if model["architecture"] == "timm":
        model["options"] = model.get("options", {}) | SMALL
    return config.load_model(model)


def shaken(network):
    """The same network in eval mode, no parameter or statistic zero, so that none can be lost without notice."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn_like(tensor) * 0.2
                tensor.copy_(
                    1 + noise.abs() if name.endswith(("running_var", "gamma", "lambda1")) else tensor + noise
                )
    return network.eval()


def expect_features(recipe, source, theirs, key=None, **changes):
    """Import by a recipe; its feature is that of `theirs` on the normalised grey image. The report of the import."""
    settings = settings_of(recipe, **changes)
    encoder, report = import_encoder(settings, str(source), key)
    grey = torch.rand(2, 1, settings.image_size, settings.image_size)
    normalise = Normalize(settings.input.mean, settings.input.std)
    with torch.no_grad():
        expected = theirs(normalise(grey.expand(-1, 3, -1, -1)))
        found = encoder.eval()((grey - MEAN) / STD).pooled
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    return report


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_config_and_says_where_its_file_is_from(path):
    study = check(read_files([ROOT / "config/config.yaml", path]))
    (name,) = read_settings(path)["methods"]
    assert name == path.stem
    assert study.method(name).own
    assert study.is_imported(name)
    assert Path(study.method(name).checkpoint).parent == Path("models")
    text = path.read_text()
    assert study.method(name).checkpoint in re.findall(r"^# (models/\S+):", text, re.MULTILINE)
    assert re.search(r"https://\S+|docs/data\.md", text)
    assert len(text.splitlines()) <= 20
    build_encoder(study.model_settings(name))


# ---- transformers


def dinov2(size):
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    return shaken(Dinov2Model(Dinov2Config(**shape, image_size=size, patch_size=14)))


@pytest.mark.parametrize("version", ["file", "memory"])
def test_rad_dino_is_transformers_dinov2(version, tmp_path):
    """At its 518 pixels, from a file as the hub has it and from a state dict of transformers 5."""
    network = dinov2(518)
    if version == "file":
        network.save_pretrained(tmp_path)
        assert "encoder.layer.0.attention.attention.query.weight" in load_file(tmp_path / "model.safetensors")
    else:
        save_file(dict(network.state_dict()), tmp_path / "model.safetensors")
    report = expect_features(
        "rad_dino", tmp_path / "model.safetensors", lambda images: network(images).pooler_output
    )
    assert report["left_out"] == ["embeddings.mask_token"]
    assert report["input"]["applied"] == "folded into the first kernel"


def test_positions_of_dinov2_are_resized_as_timm_does(tmp_path):
    network = shaken(timm.create_model("vit_base_patch14_dinov2", num_classes=0, **SMALL))
    tensors = network.state_dict() | {"mask_token": torch.zeros(1, 48)}
    torch.save(tensors, tmp_path / "official.pth")
    small = timm.create_model("vit_base_patch14_dinov2", num_classes=0, img_size=224, **SMALL).eval()
    from timm.models.vision_transformer import checkpoint_filter_fn

    small.load_state_dict(checkpoint_filter_fn(dict(tensors), small))
    report = expect_features("dinov2", tmp_path / "official.pth", small)
    assert report["left_out"] == ["mask_token"]


def test_registers_of_dinov2_take_the_class_position(tmp_path):
    from timm.models.vision_transformer import checkpoint_filter_fn

    network = shaken(timm.create_model("vit_base_patch14_reg4_dinov2", num_classes=0, img_size=28, **SMALL))
    tensors = dict(network.state_dict())
    registers, positions = tensors.pop("reg_token"), tensors.pop("pos_embed")
    tensors |= {"register_tokens": registers, "mask_token": torch.zeros(1, 48)}
    tensors["pos_embed"] = torch.cat([torch.randn(1, 1, 48), positions], dim=1)
    torch.save(tensors, tmp_path / "official.pth")
    network.load_state_dict(checkpoint_filter_fn(dict(tensors), network))
    name = "vit_base_patch14_reg4_dinov2"
    expect_features("dinov2", tmp_path / "official.pth", network, name=name, image_size=28)


def dinov3():
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 192}
    return shaken(
        DINOv3ViTModel(DINOv3ViTConfig(**shape, image_size=224, patch_size=16, num_register_tokens=4))
    )


@pytest.mark.parametrize("version", ["file", "memory"])
def test_dinov3_is_transformers(version, tmp_path):
    network = dinov3()
    if version == "file":
        network.save_pretrained(tmp_path)
    else:
        save_file(dict(network.state_dict()), tmp_path / "model.safetensors")
    report = expect_features(
        "dinov3", tmp_path / "model.safetensors", lambda images: network(images).pooler_output
    )
    assert report["left_out"] == ["embeddings.mask_token"]


def official_dinov3(tensors, key_bias=0.0):
    """transformers' tensors of DINOv3 by the official names: one projection, whose biases have a mask."""
    found = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^(?:model\.)?layer\.", "blocks.", name).replace(
            "embeddings.patch_embeddings", "patch_embed.proj"
        )
        name = name.replace("embeddings.register_tokens", "storage_tokens").replace("embeddings.", "")
        name = name.replace("attention.o_proj", "attn.proj").replace("attention.", "attn.")
        name = re.sub(r"layer_scale(\d)\.lambda1", r"ls\1.gamma", name)
        found[name.replace("up_proj", "fc1").replace("down_proj", "fc2")] = tensor
    for block in ("blocks.0.attn.", "blocks.1.attn."):
        found[f"{block}qkv.weight"] = torch.cat([found.pop(f"{block}{part}_proj.weight") for part in "qkv"])
        query, value = found.pop(f"{block}q_proj.bias"), found.pop(f"{block}v_proj.bias")
        found[f"{block}qkv.bias"] = torch.cat([query, torch.full_like(query, 7.0), value])
        found[f"{block}qkv.bias_mask"] = torch.ones(144).index_fill(0, torch.arange(48, 96), key_bias)
    return found | {"rope_embed.periods": torch.ones(4)}


def test_the_official_dinov3_masks_the_biases_of_its_keys(tmp_path):
    network = dinov3()
    torch.save(official_dinov3(network.state_dict()), tmp_path / "official.pth")
    report = expect_features(
        "dinov3", tmp_path / "official.pth", lambda images: network(images).pooler_output
    )
    assert report["left_out"] == ["mask_token", "rope_embed.periods"]
    torch.save(official_dinov3(network.state_dict(), key_bias=1.0), tmp_path / "other.pth")
    with pytest.raises(UserError, match="the network no bias of its keys"):
        import_encoder(settings_of("dinov3"), str(tmp_path / "other.pth"))


# ---- EVA-X, MRM, MGCA


def in_eva_names(tensors):
    """timm's tensors of EVA-02 by the names of its own program, with what only its pre-training and its rotations have."""
    names = {"mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"}
    names |= {"mlp.norm": "mlp.ffn_ln", "attn.q_proj.bias": "attn.q_bias", "attn.v_proj.bias": "attn.v_bias"}
    found = {}
    for name, tensor in tensors.items():
        for ours, theirs in names.items():
            name = re.sub(rf"\.{re.escape(ours)}(?=\.|$)", f".{theirs}", name)
        found[name.replace("fc_norm", "norm")] = tensor
    found |= {
        "mask_token": torch.zeros(1, 1, 48),
        "lm_head.weight": torch.zeros(8, 48),
        "lm_head.bias": torch.zeros(8),
    }
    return found | {f"{place}rope.freqs_cos": torch.zeros(196, 16) for place in ("", "blocks.0.attn.")}


@pytest.mark.parametrize("size", ["small", "base"])
def test_eva_x_is_eva_02_with_smaller_patches(size, tmp_path):
    """Against timm's Eva as the authors build it, and by their loader's rule for the last norm."""
    from timm.models.eva import Eva

    torch.manual_seed(0)
    options = {"qkv_fused": False, "scale_mlp": True} if size == "base" else {}
    network = Eva(
        img_size=224,
        patch_size=16,
        mlp_ratio=4 * 2 / 3,
        swiglu_mlp=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(14, 14),
        num_classes=0,
        **SMALL,
        **options,
    )
    shaken(network)
    torch.save({"module": in_eva_names(network.state_dict())}, tmp_path / "eva.pt")
    report = expect_features(f"eva_x_{size}", tmp_path / "eva.pt", network)
    masked = ["lm_head.bias", "lm_head.weight", "mask_token", "rope.freqs_cos"]
    assert report["left_out"] == ["blocks.0.attn.rope.freqs_cos", *masked]


def plain_vit(**options):
    torch.manual_seed(0)
    layer = partial(nn.LayerNorm, eps=1e-6)
    return shaken(
        timm.models.VisionTransformer(patch_size=16, num_classes=0, norm_layer=layer, **SMALL, **options)
    )


def test_mrm_leaves_its_decoders_out(tmp_path):
    network = plain_vit(global_pool="avg", fc_norm=False)
    more = ("mask_token", "decoder_embed.weight", "decoder_pos_embed", "decoder_blocks.0.norm1.weight")
    more += ("bert_encoder.model.embeddings.word_embeddings.weight", "bert_mlp.bias")
    tensors = network.state_dict() | {name: torch.zeros(1, 1, 8) for name in more}
    # as MAE's programs save their options
    torch.save({"model": tensors, "args": Namespace(batch_size=64), "epoch": 199}, tmp_path / "MRM.pth")
    report = expect_features("mrm", tmp_path / "MRM.pth", network)
    assert report["left_out"] == sorted(more)


def lightning(network):
    """A checkpoint of MGCA's LightningModule: image and text encoder, projections, prototypes."""
    tensors = {f"img_encoder_q.model.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {
        f"img_encoder_q.{part}.head.0.weight": torch.zeros(2, 2) for part in ("global_embed", "local_embed")
    }
    tensors["text_encoder_q.model.encoder.layer.0.output.dense.weight"] = torch.zeros(2, 2)
    state = {"state_dict": tensors | {"prototype_layer.weight": torch.zeros(3, 2)}, "epoch": 3}
    return state | {"hyper_parameters": {"img_encoder": "vit_base"}, "pytorch-lightning_version": "1.6.4"}


def test_mgca_vit_is_below_lightnings_prefixes(tmp_path):
    network = plain_vit()
    torch.save(lightning(network), tmp_path / "mgca.ckpt")
    report = expect_features("mgca_vit", tmp_path / "mgca.ckpt", network, entry("mgca_vit")["checkpoint_key"])
    assert report["loaded"] == len(network.state_dict())
    with pytest.raises(UserError, match="set checkpoint_key to the one that is meant"):
        import_encoder(settings_of("mgca_vit"), str(tmp_path / "mgca.ckpt"))


def test_mgca_resnet50_is_torchvisions(tmp_path):
    network = resnet50(weights=None)
    network.fc = nn.Identity()
    network.eval()
    torch.save(lightning(network), tmp_path / "mgca.ckpt")
    key = entry("mgca_resnet50")["checkpoint_key"]
    expect_features("mgca_resnet50", tmp_path / "mgca.ckpt", network, key, image_size=64)


# ---- files that are not what a recipe expects


@pytest.mark.parametrize(
    ("recipe", "spoil", "message"),
    [
        ("rad_dino", lambda t: t.pop("encoder.layer.1.attention.attention.key.bias"), "lacks blocks.1.attn.k_proj.bias"),
        ("rad_dino", lambda t: t.pop("layernorm.weight"), "1 missing: network.norm.weight"),
        ("rad_dino", lambda t: t.pop("encoder.layer.0.layer_scale1.lambda1"), "1 missing: network.blocks.0.ls1.gamma"),
        ("rad_dino", lambda t: t.update({"encoder.layer.1.gate": torch.zeros(1)}), "1 unexpected: network.blocks.1.gate"),
        ("rad_dino", lambda t: t.update({"layernorm.bias": torch.zeros(3)}), r"network.norm.bias \(3,\)"),
        ("rad_dino", lambda t: t.update({"encoder.layer.0.attention.attention.key.weight": torch.zeros(3)}), "do not fit each other"),
        ("rad_dino", lambda t: t.update({"embeddings.position_embeddings": torch.zeros(1, 0, 48)}), r"network.pos_embed \(1, 0, 48\)"),
        ("rad_dino", lambda t: t.update({"embeddings.position_embeddings": torch.zeros(1, 900, 48)}), r"network.pos_embed \(1, 900, 48\)"),
        ("dinov3", lambda t: None, "does not fit the model"),
        ("mgca_vit", lambda t: None, "does not fit the model"),
    ],
)  # fmt: skip
def test_a_wrong_or_incomplete_file_is_one_line(recipe, spoil, message, tmp_path):
    dinov2(518).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    spoil(tensors)
    save_file(tensors, tmp_path / "spoilt.safetensors")
    with pytest.raises(UserError, match=message) as caught:
        import_encoder(settings_of(recipe), str(tmp_path / "spoilt.safetensors"))
    assert "\n" not in str(caught.value)


def test_options_that_the_pipeline_sets_itself_are_refused():
    for name in ("in_chans", "img_size", "num_classes", "pretrained"):
        with pytest.raises(UserError, match=f"{name} is no option here"):
            config.load_model({"architecture": "timm", "name": "resnet18", "options": {name: 1}})
