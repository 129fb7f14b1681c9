"""What a run prints: one line per job, one line per error, the reasons of a dry run, the answer; and the order of a command's words."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.tests import TestLogHandlerBase
from snakemake_logger_plugin_refers import LogHandler
from snakemake_logger_plugin_refers.command_line import targets_first
from snakemake_logger_plugin_refers.dry_run import DryRun
from snakemake_logger_plugin_refers.progress import Job, Progress, last_error, span

ROOT = Path(__file__).parents[1]
LONG = "setting " * 200
SNAKEFILE = f"""
rule all:
    input: expand("made/{{number}}.txt", number=range(3)), "failed.txt"

rule make_file:
    output: "made/{{number}}.txt"
    log: "logs/{{number}}.log"
    params: text="{LONG}"
    shell: "echo {{params.text}} > {{log}}; touch {{output}}"

rule fail:
    output: "failed.txt"
    log: "logs/fail.log"
    params: text="{LONG}"
    shell: "(echo step 3/9; echo 'error: a.csv: row 3: no number; correct it'; echo {{params.text}} > /dev/null; exit 1) &> {{log}}"

rule die:
    output: "died.txt"
    log: "logs/die.log"
    shell: "(echo step 3/9; kill -9 $$) &> {{log}}"
"""


class TestTheInterface(TestLogHandlerBase):
    __test__ = True

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return None


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Run Snakemake on a small workflow with a setting of 1,600 characters: small("all") -> exit code, output."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "Snakefile").write_text(SNAKEFILE)

    def run(*arguments):
        command = [
            Path(sys.executable).with_name("snakemake"),
            *arguments,
            "--cores",
            "1",
            "--logger",
            "refers",
        ]
        done = subprocess.run(
            command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert "Traceback" not in done.stdout
        return done.returncode, done.stdout

    return run


def test_a_failed_job_is_its_error_and_its_log_and_no_line_is_long(small):
    code, output = small("all", "--keep-going", "--forceall")
    assert code == 1
    assert max(map(len, output.splitlines())) <= 200
    assert output.count("a.csv: row 3: no number; correct it") == 1
    assert re.search(r"^fail failed: a\.csv: row 3.*\n  log: logs/fail\.log$", output, re.MULTILINE)
    assert "make_file (3 jobs)" in output
    assert "setting" not in output, "no command is printed"
    assert "1 job failed, 3 of 5 jobs done" in output
    assert len(output.splitlines()) < 10


def test_a_killed_job_says_how_it_ended_and_its_last_line(small):
    code, output = small("died.txt")
    assert code == 1
    assert re.search(r"^die failed: .*(137|SIGKILL).*step 3/9$", output, re.MULTILINE), output


def test_a_dry_run_is_a_table_of_rules_and_reasons(small):
    code, output = small("-n", "all", "--forceall")
    assert code == 0
    lines = [re.split(r"\s{2,}", line, maxsplit=2) for line in output.splitlines()]
    assert ["make_file", "3", "forced"] in lines
    assert ["total", "5"] in lines
    assert len(lines) < 10


def test_more_is_printed_where_it_is_asked_for(small):
    assert LONG.strip() in small("-n", "all", "--forceall", "-p")[1]
    assert re.search(
        r"^rule make_file:\n    output: made/", small("-n", "all", "--forceall", "--verbose")[1], re.MULTILINE
    )


def test_quiet_leaves_errors(small):
    _, output = small("all", "--forceall", "--keep-going", "--quiet", "all")
    assert "make_file" not in output
    assert output.count("a.csv: row 3") == 1


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        ("--cores 8 --resources gpu=1 tables", "tables --cores 8 --resources gpu=1"),
        ("--res gpu=1 mem=2 tables page -n", "tables page --res gpu=1 mem=2 -n"),
        ("-n --config a=b c=d tables --cores 1", "tables -n --config a=b c=d --cores 1"),
        ("--set-resources pretrain:gpu=4 -- tables", "--set-resources pretrain:gpu=4 -- tables"),
        ("--resources=gpu=1 tables", "tables --resources=gpu=1"),
        ("tables --cores 8 -R finetune", "tables --cores 8 -R finetune"),
        ("--resources gpu tables", "--resources gpu tables"),
        ("--configfile a.yaml b.yaml", "--configfile a.yaml b.yaml"),
    ],
)
def test_targets_behind_assignments_are_targets(words, ordered):
    assert targets_first(words.split()) == ordered.split()


@pytest.mark.parametrize(
    "words",
    ["--cores 8 --resources gpu=1 tables", "--set-resources pretrain:gpu=4 --cores 8 tables", "--cores 8"],
)
def test_the_command_that_people_type_makes_the_tables(snakemake, downloads, words):
    found = snakemake("-n", *words.split(), *downloads)
    assert found.code == 0, found.output
    assert found.jobs["tables"] == 1


def test_a_dry_run_of_a_new_method_is_short(snakemake, downloads):
    entry = "methods={mine: {own: true, title: Mine, checkpoint: random}}"
    found = snakemake("-n", "tables", "--cores", 8, *downloads, entry)
    assert found.code == 0, found.output
    assert len(found.output) < 10_000
    assert max(map(len, found.output.splitlines())) <= 200


@pytest.mark.parametrize(
    ("target", "option"),
    [
        ("build/demo/results/tables/table1.md", "--workflow-profile profiles/demo"),
        ("results/code/cells/refers/nih/1pct/auc.json", "--configfile config/code.yaml"),
    ],
)
def test_a_file_of_another_study_names_the_option_that_chooses_it(snakemake, target, option):
    found = snakemake("-n", target, "--cores", 1)
    assert found.code == 1
    (line,) = [line for line in found.output.splitlines() if line.startswith(target)]
    assert line.endswith(option)


def test_without_the_logger_snakemake_prints_as_it_always_does(copy_project, tmp_path):
    """In an environment that the project is not installed into."""
    hidden = (
        "import sys; sys.modules['snakemake_logger_plugin_refers'] = None\nimport importlib.util, pkgutil\n"
    )
    hidden += "modules = pkgutil.iter_modules\n"
    hidden += "pkgutil.iter_modules = lambda *given: (m for m in modules(*given) if 'plugin_refers' not in m.name)\n"
    hidden += "find = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda name, *given: None if 'plugin_refers' in name else find(name, *given)\n"
    hidden += "from snakemake.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", hidden, "-n", "tables", "--config", f"data_root={tmp_path}"]
    done = subprocess.run(command, cwd=copy_project(tmp_path / "project"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rule table:" in done.stdout + done.stderr


# ---- the parts


def test_the_last_error_of_a_log_is_found_before_later_lines(tmp_path):
    log = tmp_path / "a.log"
    log.write_text(
        "step 1/9\nerror: a: b\nstep 2/9\nTraceback (most recent call last):\nValueError: bad\nwarning: x\n"
    )
    assert last_error([str(tmp_path / "none.log"), str(log)]) == "ValueError: bad"
    log.write_text("step 1/9\n")
    assert last_error([str(log)]) == "step 1/9"
    assert last_error([]) == ""


def test_time_left_is_known_once_every_kind_of_training_was_measured(tmp_path):
    progress = Progress(work={1: ("pretrain", 100, True), 2: ("finetune", 10, True), 3: ("page", 1, False)})
    assert progress.seconds_left() is None
    progress.speed = {"pretrain": 2.0, "finetune": 1.0}
    assert progress.seconds_left() == pytest.approx(200 + 10 + 5, abs=0.1)
    log = tmp_path / "pretrain.log"
    log.write_text("step 50/100  loss 1\n")
    job = Job("pretrain", "refers", True, [str(log)])
    job.started -= 50
    progress.started -= 50
    progress.running[1] = job
    assert job.step() == (50, 100)
    assert progress.seconds_left() == pytest.approx(50 + 10 + 5, abs=1), (
        "a second per step, half of them left"
    )
    assert progress.end(1) is job
    assert progress.seconds_left() == pytest.approx(10 + 5, abs=1)


def test_time_left_is_that_of_each_network():
    """A large network's first few steps do not make a small one's many steps look long."""
    work = {number: (f"pretrain {name}", steps, True) for number, (name, steps) in enumerate(
        [("resnet101", 20), ("transformer", 100), ("transformer", 2500), ("resnet50", 20)])}  # fmt: skip
    progress = Progress(work=work)
    for number, elapsed in ((0, 40), (1, 5)):
        progress.running[number] = Job("pretrain", "", True, [])
        progress.running[number].started -= elapsed
        progress.started -= elapsed
        progress.end(number)
        if number == 0:
            assert progress.seconds_left() == pytest.approx(2 * 2620, rel=0.01), "all that is known"
    assert progress.seconds_left() == pytest.approx(0.05 * 2500 + 20 * (2 + 0.05) / 2, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (100, "2 min"), (9000, "2.5 h"), (200_000, "2.3 d")]
)
def test_a_time_is_in_the_unit_that_suits_it(seconds, text):
    assert span(seconds) == text


def test_changed_settings_are_named_in_a_dry_run():
    found = DryRun(counts={"pretrain": 2})
    before, now = '{"training": {"steps": 750, "lr": 0.1}}', '{"training": {"steps": 751, "lr": 0.1}}'
    reason = f"Params have changed since last execution: Union of all: before: '{before}','x' now: '{now}' "
    found.add("pretrain", f"Missing output files: a; {reason}")
    found.add("pretrain", "Input files updated by another job: b")
    assert "1 settings changed: training.steps 750 -> 751" in found.table()
    assert "1 after another job" in found.table()
    found = DryRun(counts={"table": 1, "figure": 1})
    first, last, mine = ({"id": name, "title": name.upper()} for name in ("a", "z", "mine"))
    for rule, old, new in (
        ("table", [first, last], [first, last, mine]),
        ("figure", {"methods": [first, last]}, {"methods": [mine, first, last]}),
    ):
        before, now = map(json.dumps, (old, new))
        found.add(rule, f"Params have changed since last execution: before: '{before}' now: '{now}'")
    table, figure = found.table().splitlines()[1:3]
    assert table.endswith("settings changed: mine.id none -> mine, mine.title none -> MINE")
    assert "methods.mine.id none -> mine" in figure
    assert "z" not in figure.partition("changed")[2]
    found = DryRun(counts={"cell": 1})
    old, new = (
        f"{{'cell.py': '{'a' * 12}', 'files': '{'b' * 12}'}}",
        f"{{'cell.py': '{'a' * 12}', 'files': '{'c' * 12}'}}",
    )
    found.add("cell", f"Params have changed since last execution: Union of all: before: {old} now: {new} ")
    assert re.search(r"^cell +1  code changed: files$", found.table(), re.MULTILINE)
