"""Import of ImageNet's vision transformers: equal to timm's forward pass, strict about every tensor."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from generate_checkpoint import random_arrays
from refers import config
from refers.errors import UserError
from refers.model.checkpoint_file import read_content
from refers.model.encoder_file import load_start, load_strictly, save_encoder
from refers.model.encoders import build_encoder, load_encoder
from refers.model.import_checkpoint import import_encoder
from refers.model.vit_checkpoints import from_google, resize_positions, to_radiograph_transformer
from safetensors.torch import save_file
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torchvision.transforms import Normalize

SCRIPTS = Path(__file__).parents[1] / "workflow/scripts"

SETTINGS = config.Transformer(
    image_size=32, patch_size=8, width=48, depth=2, heads=3, mlp_width=192, activation="gelu", dropout=0.0
)

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.fixture(scope="module")
def reference(timm_vit):
    return timm_vit(classes=5)


@pytest.mark.parametrize("position", ["concat", "add"])
@pytest.mark.parametrize("input", [HALF, IMAGENET])
def test_our_forward_pass_equals_timms(reference, position, input, tmp_path):
    save_file(reference.state_dict(), tmp_path / "vit.safetensors")
    settings = SETTINGS.replace(position=position, input=input)
    encoder, report = import_encoder(settings, str(tmp_path / "vit.safetensors"))
    assert report == {
        "read": 32,
        "loaded": 30,
        "left_out": ["head.bias", "head.weight"],
        "input": input | {"from": "model.input", "applied": "folded into the first kernel"},
    }
    assert (
        encoder.state_dict().keys() == build_encoder(SETTINGS.replace(position=position)).state_dict().keys()
    )
    assert_equal_features(encoder, reference, input)


def assert_equal_features(encoder, network, input):
    """The encoder's outputs are those of a plain vision transformer with this input, of a grey image of 32 pixels."""
    grey = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        images = Normalize(input["mean"], input["std"])(grey.expand(-1, 3, -1, -1))
        expected = network.eval().forward_features(images)
        features = encoder.eval()((grey - 0.5) / 0.5)
    torch.testing.assert_close(features.aggregation, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.tokens[..., 48:], expected[:, 1:], atol=1e-5, rtol=1e-5)


def test_a_checkpoint_that_does_not_say_its_input_asks_for_it(reference, tmp_path):
    save_file(reference.state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(UserError, match=r"does not say how its images were normalised; set model\.input"):
        import_encoder(SETTINGS, str(tmp_path / "vit.safetensors"))


def test_googles_checkpoint_was_trained_on_pixels_from_minus_one_to_one(tmp_path, timm_vit):
    np.savez(tmp_path / "vit.npz", **random_arrays(SETTINGS, seed=0))
    network = timm_vit(classes=10)
    network.load_pretrained(str(tmp_path / "vit.npz"))
    encoder, report = import_encoder(SETTINGS, str(tmp_path / "vit.npz"))
    assert report["input"] == HALF | {
        "from": "Google's vision transformers",
        "applied": "folded into the first kernel",
    }
    assert_equal_features(encoder, network, HALF)


def variant(**options):
    """A random vision transformer of timm of the sizes of SETTINGS, its 0.1-scaled weights large enough to tell apart."""
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
    model = VisionTransformer(**sizes | {"num_classes": 0} | options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_a_class_token_without_a_position_is_imported_exactly(tmp_path):
    """As DeiT III and FlexiViT have it."""
    network = variant(no_embed_class=True)
    assert network.pos_embed.shape[1] == 16
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    encoder, _ = import_encoder(SETTINGS.replace(input=IMAGENET), str(tmp_path / "vit.safetensors"))
    assert_equal_features(encoder, network, IMAGENET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_values": 0.1}, "unexpected: blocks.0.ls1.gamma"),
        ({"reg_tokens": 4}, "first reg_token"),
        ({"reg_tokens": 4, "no_embed_class": True}, "first reg_token"),
        ({"pre_norm": True}, "lacks patch_embed.proj.bias"),
        ({"qk_norm": True}, "unexpected: blocks.0.attn.k_norm.bias"),
        ({"class_token": False, "global_pool": "avg"}, "lacks cls_token"),
        ({"global_pool": "avg"}, "lacks norm.weight"),
        ({"pos_embed": "none"}, "lacks pos_embed"),
        ({"img_size": (32, 64)}, "pos_embed has 33 positions"),
        ({"patch_size": 4}, "wrong shape: patch.weight"),
        ({"in_chans": 1}, "takes 1 channels, and its input has 3"),
    ],
)
def test_a_vision_transformer_that_is_not_plain_is_refused_by_name(options, message, tmp_path):
    save_file(variant(**options).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(UserError, match=message):
        import_encoder(SETTINGS.replace(input=HALF), str(tmp_path / "vit.safetensors"))


@pytest.mark.parametrize(
    "options",
    [{"num_heads": 4}, {"act_layer": torch.nn.ReLU}, {"final_norm": True, "block_fn": ResPostBlock}],
)
def test_a_download_with_the_same_tensors_and_another_function_is_refused(options, monkeypatch):
    create(monkeypatch, variant(**options))
    with pytest.raises(UserError, match="computes something else than this encoder"):
        import_encoder(SETTINGS, "timm:vit")


def create(monkeypatch, network):
    """Make timm's download return `network`."""
    network.pretrained_cfg = IMAGENET
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **options: network)


def test_a_downloaded_vision_transformer_brings_its_input(monkeypatch):
    network = variant()
    create(monkeypatch, network)
    encoder, report = import_encoder(SETTINGS, "timm:vit")
    assert report["input"]["from"] == "timm's pretrained_cfg of vit"
    assert_equal_features(encoder, network, IMAGENET)


def test_positions_of_another_size_are_resized_as_timm_does(tmp_path):
    network = variant(img_size=64)
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    encoder, _ = import_encoder(SETTINGS.replace(input=IMAGENET), str(tmp_path / "vit.safetensors"))
    network.set_input_size(img_size=32)
    assert_equal_features(encoder, network, IMAGENET)


def test_googles_npz_holds_the_same_weights_as_timms_own_reader_finds(tmp_path, timm_vit):
    np.savez(tmp_path / "vit.npz", **random_arrays(SETTINGS, seed=0))
    ours = from_google(read_content(str(tmp_path / "vit.npz")))
    model = timm_vit(classes=10)
    model.load_pretrained(str(tmp_path / "vit.npz"))
    ours = {name: tensor for name, tensor in ours.items() if not name.startswith("head.")}
    theirs = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head")}
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, msg=name)


def test_the_position_grid_is_resized_and_left_alone_where_it_fits():
    grid = torch.arange(16.0).reshape(16, 1)
    assert resize_positions(grid, 4) is grid
    larger = resize_positions(grid, 7).reshape(7, 7)
    assert larger[0, 0] == 0
    assert larger[-1, -1] == 15
    torch.testing.assert_close(larger[::2, ::2].flatten(), grid[:, 0])


def test_384_pixels_become_224_and_the_class_tokens_place_stays():
    torch.manual_seed(0)
    paper = config.Transformer(width=12, heads=3, mlp_width=12, depth=1, activation="gelu", position="add")
    model = timm.create_model(
        "vit_tiny_patch16_384",
        pretrained=False,
        num_classes=0,
        embed_dim=12,
        depth=1,
        num_heads=3,
        mlp_ratio=1,
    )
    tensors = model.state_dict()
    assert tensors["pos_embed"].shape[1] == 577
    torch.nn.init.normal_(tensors["pos_embed"])
    state = to_radiograph_transformer(tensors, paper, "vit")
    assert state["position"].shape == (196, 12)
    torch.testing.assert_close(state["aggregation"], tensors["cls_token"][0, 0] + tensors["pos_embed"][0, 0])
    corners = [(0, 0), (0, 13), (13, 0), (13, 13)]
    for row, column in corners:
        torch.testing.assert_close(
            state["position"][row * 14 + column],
            tensors["pos_embed"][0, 1 + (row // 13 * 23) * 24 + column // 13 * 23],
        )


def test_relu_is_refused_for_weights_trained_with_gelu(reference):
    with pytest.raises(UserError, match=r"set model\.activation: gelu"):
        to_radiograph_transformer(reference.state_dict(), SETTINGS.replace(activation="relu"), "vit")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("blocks.1.mlp.fc1.bias"), "1 missing: blocks.1.mlp.fc1.bias"),
        (
            lambda state: state.update(extra=torch.zeros(1)),
            "1 tensors have no counterpart in the radiograph transformer, first extra",
        ),
        (lambda state: state.pop("cls_token"), "lacks cls_token"),
        (lambda state: state.update({"norm.weight": torch.zeros(3)}), "1 wrong shape: norm.weight"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(reference, spoil, message):
    state = {name: tensor for name, tensor in reference.state_dict().items() if not name.startswith("head")}
    spoil(state)
    with pytest.raises(UserError, match=message):
        load_strictly(build_encoder(SETTINGS), to_radiograph_transformer(state, SETTINGS, "vit"), "vit")


def test_a_damaged_checkpoint_is_one_line_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "vit.npz").write_bytes(b"not an archive")
    command = [
        sys.executable,
        SCRIPTS / "import_encoder.py",
        "--method",
        "imagenet",
        "--checkpoint",
        tmp_path / "vit.npz",
    ]
    done = subprocess.run(
        [*command, "--config", "{}", "--out", tmp_path / "out/e.safetensors"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


def test_an_encoder_file_rebuilds_its_own_architecture(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(SETTINGS)
    save_encoder(tmp_path / "e.safetensors", encoder, {"method": "x"})
    loaded, about = load_encoder(tmp_path / "e.safetensors")
    assert loaded.settings == SETTINGS
    assert about == {"method": "x"}
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    (tmp_path / "e.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="cannot be read as an encoder"):
        load_encoder(tmp_path / "e.safetensors")


def test_pretraining_starts_from_an_encoder_file_whatever_reads_its_tokens(tmp_path):
    torch.manual_seed(0)
    start = build_encoder(SETTINGS)
    save_encoder(tmp_path / "e.safetensors", start, {})
    encoder = build_encoder(SETTINGS.replace(aggregation="add", classifier="aggregation", dropout=0.1))
    load_start(encoder, tmp_path / "e.safetensors")
    for name, tensor in start.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "relu"}, "has activation gelu instead of relu"),
        ({"heads": 4}, "has heads 3 instead of 4"),  # of equal shapes, as the one above
        ({"position": "add"}, "has position concat instead of add"),
        ({"depth": 1}, "has depth 2 instead of 1"),
    ],
)
def test_a_start_that_would_compute_something_else_is_refused(tmp_path, change, message):
    save_encoder(tmp_path / "e.safetensors", build_encoder(SETTINGS), {})
    encoder = build_encoder(SETTINGS.replace(**change))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_start(encoder, tmp_path / "e.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
