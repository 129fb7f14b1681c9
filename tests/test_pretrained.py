"""A method of your own: any network of timm, any checkpoint file, every tensor accounted for, a row in every table."""

import json
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import import_encoder as import_encoder_script
import pytest
import timm
import torch
import yaml
from helpers import timms_features
from refers import config
from refers.config import objective
from refers.errors import UserError
from refers.evaluation.class_activation import load_classifier
from refers.methods import build_objective
from refers.model.checkpoint_file import read_content
from refers.model.classifier import Classifier
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder, load_encoder
from refers.model.import_checkpoint import AT_INPUT, FOLDED, import_encoder
from refers.model.layers import MEAN, STD
from refers.reporting.page import facts_of_runs
from refers.study.availability import Availability
from refers.study.check import check
from refers.study.specs import Specs
from refers.training import trainer
from refers.training.pretraining import pretraining_task
from safetensors.torch import save_file
from torchvision.models import resnet18
from torchvision.transforms import Normalize

NETWORKS = ["vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224", "resnet18"]


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return timm.create_model("resnet18", pretrained=False, num_classes=7).eval()


def settings_of(name, size=64):
    return config.Timm(name=name, image_size=size)


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_of_timm_is_an_encoder(name):
    encoder = build_encoder(settings_of(name, 224 if "swin" in name else 64))
    assert encoder.training
    encoder.eval()
    images = torch.randn(2, 1, encoder.settings.image_size, encoder.settings.image_size)
    with torch.no_grad():
        features = encoder(images)
        assert Classifier(encoder, 3, 0.0)(images).shape == (2, 3)
    assert features.pooled.shape == (2, encoder.feature_width)
    assert features.tokens.shape[0] == 2
    assert features.tokens.shape[2] == encoder.token_width
    assert features.tokens.shape[1] == encoder.grid**2 > 1


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("crossvit_tiny_240", 240, "crossvit_tiny_240 does not take grey images of 240 pixels"),
        ("coat_tiny", 64, "coat_tiny does not take grey images of 64 pixels"),
        ("vit_small_patch32_224", 16, "vit_small_patch32_224 does not take grey images of 16 pixels"),
    ],
)
def test_a_network_that_gives_no_tokens_of_such_images_is_one_line(name, size, message):
    with pytest.raises(UserError, match=message) as error:
        build_encoder(settings_of(name, size))
    assert "\n" not in str(error.value)


def saved(network, path):
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "size", "applied"),
    [
        ("vit_tiny_patch16_224", 64, FOLDED),
        ("convnext_atto", 64, FOLDED),
        ("deit3_small_patch16_224", 32, FOLDED),
        # padded convolutions, one of them by itself, and one that standardises its kernel
        ("resnet18", 64, AT_INPUT),
        ("tf_mobilenetv3_small_minimal_100", 64, AT_INPUT),
        ("resnetv2_50x1_bit", 64, AT_INPUT),
    ],
)
def test_an_imported_network_gives_timms_features_of_the_grey_image(name, size, applied, tmp_path):
    """With timm's own preprocessing; again after save and load, through a classifier, and in the gradient of a pixel."""
    torch.manual_seed(0)
    sizes = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    network = timm.create_model(name, num_classes=7, **sizes).eval()
    source = saved(network, tmp_path / "net.safetensors")
    imported, report = import_encoder(settings_of(name, size), source)
    mean, std = (list(timm.get_pretrained_cfg(name).to_dict()[key]) for key in ("mean", "std"))
    origin = f"timm's pretrained_cfg of {name}"
    assert report["input"] == {"mean": mean, "std": std, "from": origin, "applied": applied}
    assert imported.training
    save_encoder(tmp_path / "encoder.safetensors", imported, {})
    encoder, _ = load_encoder(tmp_path / "encoder.safetensors")
    model = Classifier(encoder, 3, 0.0)
    save_encoder(tmp_path / "classifier.safetensors", model, {"classes": 3})
    grey = torch.rand(2, 1, size, size, requires_grad=True)
    expected = timms_features(network, grey)
    weights = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), grey)
    for each in (imported, encoder, load_classifier(tmp_path / "classifier.safetensors").encoder):
        found = each.eval()((grey - MEAN) / STD).pooled
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        (gradient,) = torch.autograd.grad((found * weights).sum(), grey)
        torch.testing.assert_close(gradient, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-3)


def test_an_input_of_mean_one_half_is_folded_into_a_padded_convolution_too(resnet, tmp_path):
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 1.0]}
    settings = settings_of("resnet18").replace(input=half)
    encoder, report = import_encoder(settings, saved(resnet, tmp_path / "net.safetensors"))
    assert report["input"] == half | {"from": "model.input", "applied": FOLDED}
    assert report["left_out"] == ["fc.bias", "fc.weight"]
    assert report["read"] == report["loaded"] + 2 == len(resnet.state_dict())
    assert encoder.settings.input is None
    assert encoder.network.conv1.weight.shape[1] == 1
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        last = resnet.forward_features(torch.cat([2 * x, x, x / 2], dim=1))
        expected = resnet.forward_head(last, pre_logits=True)
        torch.testing.assert_close(encoder.eval()(x).pooled, expected, atol=1e-4, rtol=1e-4)


def test_a_kernel_of_other_channels_than_its_input_is_refused(tmp_path):
    torch.manual_seed(0)
    grey = timm.create_model("convnext_atto", num_classes=0, in_chans=1)
    source = saved(grey, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=r"takes 1 channels, and its input has 3; set model\.input"):
        import_encoder(settings_of("convnext_atto"), source)
    settings = settings_of("convnext_atto").replace(input={"mean": [0.449], "std": [0.226]})
    encoder, _ = import_encoder(settings, source)
    v = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = grey.eval()((v - 0.449) / 0.226)
        torch.testing.assert_close(encoder.eval()((v - MEAN) / STD).pooled, expected, atol=1e-4, rtol=1e-4)


def test_torchvisions_residual_network_is_read_from_torchs_format(tmp_path):
    torch.manual_seed(0)
    network = resnet18(weights=None).eval()
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "net.pth"
    )
    settings = config.ResNet(architecture="resnet18", image_size=64)
    encoder, report = import_encoder(settings, str(tmp_path / "net.pth"))
    assert report["left_out"] == ["fc.bias", "fc.weight"]
    assert report["input"]["applied"] == AT_INPUT
    grey = torch.rand(2, 1, 64, 64)
    network.fc = torch.nn.Identity()
    normalise = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    save_encoder(tmp_path / "encoder.safetensors", encoder, {})
    with torch.no_grad():
        expected = network(normalise(grey.expand(-1, 3, -1, -1)))
        for each in (encoder, load_encoder(tmp_path / "encoder.safetensors")[0]):
            found = each.eval()((grey - MEAN) / STD).pooled
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_encoder_of_this_pipeline_has_its_own_architecture(small_model, tmp_path):
    ours = build_encoder(small_model)
    save_encoder(tmp_path / "e.safetensors", ours, {"method": "colleague"})
    found, report = import_encoder(config.Transformer(), str(tmp_path / "e.safetensors"))
    assert found.settings == small_model
    assert report["read"] == report["loaded"] == len(ours.state_dict())
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), "1 missing: network.layer1.0.conv1.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "1 unexpected: network.extra"),
        (lambda state: state.update({"bn1.weight": torch.zeros(3)}), "1 wrong shape: network.bn1.weight"),
    ],
)
def test_a_partial_match_is_refused_with_the_keys(resnet, tmp_path, spoil, message):
    state = dict(resnet.state_dict())
    spoil(state)
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=message):
        import_encoder(settings_of("resnet18"), str(tmp_path / "net.safetensors"))


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("net.pth", pickle.dumps({"weight": Malicious()})),
        ("net.pth", b""),
        ("net.safetensors", b"{}"),
        ("net.npz", b"PK"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_one_line_and_executes_nothing(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="not a checkpoint in npz, safetensors or torch's format") as caught:
        read_content(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_timms_weights_are_downloaded_only_when_asked_for(resnet, tmp_path, monkeypatch):
    asked = []

    def create_model(name, pretrained=False, **options):
        if pretrained:
            asked.append(name)
            raise OSError("no route to the hub")
        return original(name, pretrained=False, **options)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", create_model)
    save_file(resnet.state_dict(), tmp_path / "net.safetensors")
    import_encoder(settings_of("resnet18"), str(tmp_path / "net.safetensors"))
    import_encoder(settings_of("resnet18"), "random")
    assert not asked
    with pytest.raises(
        UserError, match=r"timm:resnet18\.a1_in1k: cannot be downloaded \(no route to the hub\)"
    ):
        import_encoder(settings_of("resnet18"), "timm:resnet18.a1_in1k")
    assert asked == ["resnet18.a1_in1k"]


def downloads(monkeypatch, network):
    """Make timm's download of weights return `network`; networks without weights are made as ever."""
    original = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, pretrained=False, **options: network if pretrained else original(name, **options),
    )


def test_a_download_brings_the_input_of_its_own_weights(monkeypatch):
    torch.manual_seed(0)
    clip = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}
    network = timm.create_model("convnext_atto", num_classes=3, pretrained_cfg_overlay=clip)
    downloads(monkeypatch, network)
    encoder, report = import_encoder(settings_of("convnext_atto"), "timm:convnext_atto.d2_in1k")
    origin = "timm's pretrained_cfg of convnext_atto.d2_in1k"
    lists = {key: list(numbers) for key, numbers in clip.items()}
    assert report["input"] == lists | {"from": origin, "applied": FOLDED}
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        found = encoder.eval()((grey - MEAN) / STD).pooled
        torch.testing.assert_close(found, timms_features(network, grey), atol=1e-4, rtol=1e-4)


def test_a_download_that_computes_something_else_is_refused(monkeypatch):
    """The tensors of both have the same names and shapes; padding and the epsilon of their statistics differ."""
    torch.manual_seed(0)
    downloads(monkeypatch, timm.create_model("tf_efficientnet_b0"))
    with pytest.raises(UserError, match="timm:tf_efficientnet_b0: computes something else than this encoder"):
        import_encoder(settings_of("efficientnet_b0"), "timm:tf_efficientnet_b0")


def test_weights_that_take_our_images_have_no_other_input(small_model, tmp_path):
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    save_encoder(tmp_path / "e.safetensors", build_encoder(small_model), {})
    for source in ("random", str(tmp_path / "e.safetensors")):
        _, report = import_encoder(small_model, source)
        facts = {"mean": [0.5], "std": [0.5], "from": "this pipeline", "applied": "unchanged"}
        assert report["input"] == facts
        with pytest.raises(UserError, match=r"remove model\.input"):
            import_encoder(small_model.replace(input=half), source)
    with pytest.raises(UserError, match=r"model\.input describes the weights of a checkpoint"):
        config.load(config.Pretrain, {"model": {"input": half}}, "pretrain")
    with pytest.raises(UserError, match=r"model\.input: mean has 2 numbers and std has 3"):
        config.load_model({"input": {"mean": [0.5, 0.5], "std": [0.5] * 3}})


@pytest.mark.parametrize(("name", "applied"), [("convnext_atto", FOLDED), ("resnet18", AT_INPUT)])
def test_the_record_and_the_page_say_which_input(name, applied, tmp_path, monkeypatch):
    torch.manual_seed(0)
    source = saved(timm.create_model(name, num_classes=0), tmp_path / "net.safetensors")
    settings = config.to_dict(settings_of(name))
    encoder = tmp_path / "encoder.safetensors"
    options = {"method": "mine", "checkpoint": source, "config": json.dumps(settings), "out": encoder}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["import_encoder.py", *words])
    import_encoder_script.main()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["input"]["mean"] == [0.485, 0.456, 0.406]
    assert record["input"]["std"] == [0.229, 0.224, 0.225]
    assert record["input"]["applied"] == applied
    # the record keeps the settings of the config, with which `explain` compares
    assert record["settings"] == settings
    _, about = load_encoder(encoder)
    run = {"encoder": about, "seed": 0, "settings_sha256": "a" * 64}
    run |= {"library_sha256": "b" * 64, "commit": "c", "device": "cpu", "wall_seconds": 1.0, "versions": {}}
    text = facts_of_runs([run, run])["input of the encoder"]
    assert text.startswith(
        "mean 0.485, 0.456, 0.406, deviation 0.229, 0.224, 0.225 (timm's pretrained_cfg of"
    )
    assert text.endswith(applied)


def test_an_unknown_network_is_answered_with_near_names():
    with pytest.raises(UserError, match="timm has no network 'resnet10'; it has resnet10t"):
        build_encoder(settings_of("resnet10"))
    with pytest.raises(UserError, match=r"model\.name: resnet18\.mine: Invalid pretrained tag"):
        build_encoder(settings_of("resnet18.mine"))
    with pytest.raises(UserError, match=r"model\.name: must not be empty"):
        config.load_model({"architecture": "timm", "name": "", "image_size": 64})


OVERLAY = """
methods:
  my_network:
    title: My network
    own: true
    model: {{architecture: timm, name: resnet18, image_size: 64}}
    checkpoint: {path}
    finetune: {{training: {{optimiser: {{name: adam, lr: 1.0e-4}}}}}}
"""


def test_one_entry_is_a_row_in_every_table_and_runs(snakemake, demo, resnet, tmp_path):
    """The whole way of docs/add-a-method.md: checkpoint -> overlay -> encoder -> cell -> every table's spec."""
    save_file(resnet.state_dict(), tmp_path / "net.safetensors")
    overlay = tmp_path / "my.yaml"
    overlay.write_text(OVERLAY.format(path=tmp_path / "net.safetensors"))
    found = snakemake(
        "-n",
        "tables",
        "--workflow-profile",
        "profiles/demo",
        "--configfile",
        "config/demo.yaml",
        overlay,
    )
    assert found.code == 0, found.output
    assert (found.jobs["import_encoder"], found.jobs["finetune"], found.jobs["cell"]) == (1, 10, 9)
    values = config.merge(
        *(
            yaml.safe_load(Path(path).read_text())
            for path in ("config/config.yaml", "config/demo.yaml", overlay)
        )
    )
    mine = Specs(Availability(check(values)))
    for table in values["tables"]:
        assert mine.table(table)["rows"][-1]["title"] == "My network"
    encoder = "build/own-test/encoders/my_network/encoder.safetensors"
    target = "build/own-test/cells/my_network/shenzhen/100pct/auc.json"
    overlay.write_text(
        overlay.read_text()
        + "pathvars: {results: build/own-test, logs: build/own-test/logs, benchmarks: build/own-test/benchmarks}\n"
        + "finetune: {defaults: {}, datasets: {shenzhen: {training: {steps: 3, warmup_steps: 1}}}}\n"
    )
    done = snakemake(
        encoder,
        target,
        "--workflow-profile",
        "profiles/demo",
        "--configfile",
        "config/demo.yaml",
        overlay,
    )
    assert done.code == 0, done.output[-3000:]


def blocks(language):
    text = Path("docs/add-a-method.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_entry_of_the_guide_is_a_valid_method(monkeypatch, tmp_path):
    methods = shutil.copytree(objective.METHODS, tmp_path / "methods")
    (methods / "quarter_turns.py").write_text(blocks("python")[0])
    monkeypatch.setattr(objective, "METHODS", methods)
    base = [yaml.safe_load(Path(f"config/{name}.yaml").read_text()) for name in ("config", "demo")]
    seen = set()
    for block in blocks("yaml"):
        entry = yaml.safe_load(block)
        found = check(config.merge(*base, entry))
        assert set(found.own_methods) <= set(entry["methods"]) <= set(found.config.methods)
        seen |= set(found.own_methods)
    assert "quarter_turns" in seen


def test_the_guides_first_example_is_a_row_of_the_demo(snakemake, downloads, tmp_path):
    """Its checkpoint, its import, and the jobs that its command would run."""
    code = re.search(r"python -c '\n(.*?)'\n", blocks("sh")[0], re.DOTALL)[1]
    (tmp_path / "build").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    example = yaml.safe_load(blocks("yaml")[0])
    entry = example["methods"]["my_vit"]
    entry["checkpoint"] = str(tmp_path / entry["checkpoint"])
    encoder, report = import_encoder(config.load_model(entry["model"]), entry["checkpoint"])
    assert len(encoder.network.blocks) == 2
    assert report["left_out"] == ["head.bias", "head.weight"]
    overlay = tmp_path / "my.yaml"
    folders = {name: str(tmp_path / name) for name in ("results", "store", "interim")}
    overlay.write_text(yaml.safe_dump(example | {"pathvars": folders}))
    command = [overlay if word == "my.yaml" else word for word in shlex.split(blocks("sh")[1])[1:]]
    found = snakemake("-n", "--verbose", *command, *downloads[:2])
    assert found.code == 0, found.output
    mine = re.findall(r"rule (\w+):\n(?: {4}.*\n)*? {4}wildcards: .*method=my_vit", found.output)
    assert (mine.count("import_encoder"), mine.count("finetune")) == (1, 10)


FRAME = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F
from refers.methods import CropSettings, StudySettings
from refers.training.task import PretrainingObjective

@dataclass(frozen=True, kw_only=True)
class Settings({settings}):
    pass

class Objective(PretrainingObjective):
    unit = "{unit}"

    def __init__(self, encoder, settings, context):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.feature_width, {outputs})

    def forward(self, batch):
        images = batch["images"]
        {loss}
"""
STUDY = FRAME.format(
    settings="StudySettings",
    unit="study",
    outputs="len(context.label_names)",
    loss="""named = self.head(self.encoder(images.flatten(0, 1)).pooled.unflatten(0, images.shape[:2]).mean(1))
        return {"loss": F.binary_cross_entropy_with_logits(named.float(), (batch["labels"] > 0).float())}""",
)
CROP = FRAME.format(
    settings="CropSettings",
    unit="crop",
    outputs="context.words",
    loss="""return {"loss": F.cross_entropy(self.head(self.encoder(images).pooled).float(), batch["word"])}""",
)
SOURCES = {"study": STUDY, "image": blocks("python")[0], "crop": CROP}


def written(source):
    """The module refers.methods.own as if a file held `source`."""
    module = types.ModuleType("refers.methods.own")
    exec(compile(source, "own.py", "exec"), module.__dict__)
    return module


@pytest.fixture
def write(monkeypatch):
    """Write an objective: write(source), then its name is "own"."""
    return lambda source: monkeypatch.setitem(sys.modules, "refers.methods.own", written(source))


def test_the_guide_shows_an_objective_in_under_sixty_lines():
    (source,) = blocks("python")
    assert source.count("\n") < 60


@pytest.mark.parametrize("unit", SOURCES)
def test_an_objective_of_every_unit_trains(unit, small_model, context, studies, tmp_path, write):
    """The guide's own, and the least that its contract asks of the other units."""
    write(SOURCES[unit])
    torch.manual_seed(0)
    objective = build_objective("own", build_encoder(small_model), {}, context)
    assert objective.unit == unit
    training = config.Training(
        steps=40,
        warmup_steps=2,
        batch_size=12,
        precision="fp32",
        optimiser=config.Optimiser(name="adam", lr=1e-2),
    )
    task = pretraining_task(studies, objective, training, 32, torch.device("cpu"))
    with torch.no_grad():
        start = task.validate()["loss"]
    assert trainer.fit(task, training, torch.device("cpu"), tmp_path, "x")["best_score"] > -start


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        (STUDY, ("(StudySettings)", ""), "its Settings must extend refers.methods.StudySettings"),
        (CROP, ("(CropSettings)", "(StudySettings)"), "its Settings must extend refers.methods.CropSettings"),
        (STUDY, ('unit = "study"', ""), "unit None must be one of study, image, crop"),
        (STUDY, ('unit = "study"', 'unit = "patient"'), "unit 'patient' must be one of study, image, crop"),
        (
            STUDY,
            ("(PretrainingObjective)", "(nn.Module)"),
            "Objective must extend refers.training.task.PretrainingObjective",
        ),
        (STUDY, ("class Settings", "class Options"), "own.py defines no Settings"),
        (
            CROP,
            ("self.encoder, self.head =", "self.body, self.head ="),
            "set self.encoder = encoder in its __init__",
        ),
    ],
)
def test_an_objective_that_breaks_the_contract_is_one_line(
    source, change, message, small_model, context, write
):
    write(source.replace(*change))
    with pytest.raises(UserError, match=f"^objective 'own': .*{re.escape(message)}") as error:
        build_objective("own", build_encoder(small_model), {}, context)
    assert "\n" not in str(error.value)
