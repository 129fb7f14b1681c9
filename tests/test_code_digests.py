"""What reruns a job when code changes: the `code` parameter of its rule."""

import json
import os
import re
from pathlib import Path

import pytest
from refers.provenance import code_digests

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "workflow/scripts/refers"
BY_NAME = re.compile(r'import_module\(f"refers\.([\w.]+)\.\{\w+\}"\)')

# ---- of files


@pytest.fixture
def digests(tmp_path, monkeypatch):
    """Write files and digest a script of them, as a new process does: digests({path: text}, **loaded), by default job.py."""
    monkeypatch.setattr(code_digests, "SCRIPTS", tmp_path)
    monkeypatch.setattr(code_digests, "MEMORY", tmp_path / "memory/code.json")
    (tmp_path / "memory").mkdir()

    def digest(files, **loaded):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget()
        return code_digests.code_of("job", **loaded)

    yield digest
    forget()


def forget():
    for each in (code_digests._facts, code_digests._files, code_digests._memory, code_digests._module_name):
        each.cache_clear()
    code_digests._changed.clear()


FILES = {"job.py": "from refers import a\n", "refers/a.py": "import refers.b\n", "refers/b.py": "x = 1\n"}


def test_what_was_parsed_once_is_parsed_no_more(digests, monkeypatch):
    before = digests(FILES)
    monkeypatch.setattr(code_digests.ast, "parse", lambda *_: pytest.fail("parsed again"))
    assert digests({}) == before
    assert digests(FILES) == before, "the same bytes, written anew"


def test_a_changed_file_is_noticed_behind_the_memory(digests, tmp_path):
    before = digests(FILES)
    state = (tmp_path / "refers/b.py").stat()
    (tmp_path / "refers/b.py").write_text("x = 2\n")
    os.utime(tmp_path / "refers/b.py", ns=(state.st_atime_ns, state.st_mtime_ns))
    after = digests({})
    assert {name for name in after if after[name] != before[name]} == {"b"}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"job.py": 1}', '{"job.py": ["a", "b"]}', '{"job.py": [1, 2, 3, 4]}']
)
def test_a_damaged_memory_is_made_anew(digests, tmp_path, content):
    before = digests(FILES)
    (tmp_path / "memory/code.json").write_text(content)
    assert digests({}) == before
    assert set(json.loads((tmp_path / "memory/code.json").read_text())) == set(FILES)


def test_comments_change_no_digest_and_statements_do(digests):
    before = digests(
        {
            "job.py": '"""Doc."""\nfrom refers import a\n',
            "refers/a.py": "from refers.b import f\n",
            "refers/b.py": "def f():\n    return 1\n",
            "refers/c.py": "x = 1\n",
        }
    )
    assert list(before) == ["a", "b", "job.py"]
    assert digests({"refers/b.py": '# why\ndef f():\n    """Say one."""\n    return  1\n'}) == before
    after = digests({"refers/b.py": "def f():\n    return 2\n"})
    assert {name for name in after if after[name] != before[name]} == {"b"}


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import refers.x.y as z", {"refers", "x", "x.y"}),
        ("from refers.x import y", {"refers", "x", "x.y"}),
        ("from refers.x.y import f", {"refers", "x", "x.y"}),
        ("from refers.x import *", {"refers", "x"}),
        ("import refers.x", {"refers", "x"}),
        ("import numpy, refersx.y\nfrom os import path", set()),
        ("def f():\n    if True:\n        from refers.x import y", {"refers", "x", "x.y"}),
        ("from refers.x.relative import f", {"refers", "x", "x.relative", "x.y", "z"}),
    ],
)
def test_every_form_of_import_is_followed(digests, statement, found):
    files = {
        "refers/__init__.py": "",
        "refers/x/__init__.py": "",
        "refers/x/y.py": "f = 1\n",
        "refers/z.py": "",
    }
    files["refers/x/relative.py"] = "from . import y\nfrom ..z import g\nfrom .. import z\n"
    assert digests(files | {"job.py": statement + "\n"}).keys() == found | {"job.py"}


def test_modules_imported_by_name_count_all_or_as_told(digests):
    files = {
        "job.py": "from refers.x import load\n",
        "refers/x/__init__.py": "from importlib import import_module\n\n"
        'def load(name):\n    return import_module(f"refers.x.{name}")\n',
        "refers/x/one.py": "from refers import shared\n",
        "refers/x/two.py": "",
        "refers/shared.py": "",
    }
    assert digests(files).keys() == {"job.py", "x", "x.one", "x.two", "shared"}
    assert digests({}, x=["two"]).keys() == {"job.py", "x", "x.two"}
    assert digests({}, x=["one"]).keys() == {"job.py", "x", "x.one", "shared"}
    assert digests({}, x=["planned"]).keys() == {"job.py", "x"}, "what is not written yet"


@pytest.mark.parametrize("name", ["name", '"refers." + name', 'f"{name}"', 'f"refers.absent.{name}"'])
def test_an_import_by_name_without_a_package_is_an_error(digests, name):
    with pytest.raises(ValueError, match=r"job\.py, line 2: "):
        digests({"job.py": f"import importlib\nimportlib.import_module({name})\n"})


# ---- of the rules

PROBE = """
import json
from types import SimpleNamespace

NAMES = {
    "source": config["sources"],
    "method": [name for name in STUDY.methods if not is_imported(name)],
    "figure": [name for name, entry in config["figures"].items() if entry["kind"] == "attention"],
}
found = {}
for each in workflow.rules:
    value = each.params.get("code")
    if callable(value):
        wildcard = next(iter(each.wildcard_names))
        for name in NAMES[wildcard]:
            found[f"{each.name}:{name}"] = value(SimpleNamespace(**{wildcard: name}))
    elif value:
        found[each.name] = value
Path("digests.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def of_rules(snakemake, copy_project, tmp_path_factory):
    """The digests of every rule, or of a rule for every value of its wildcard; with a statement more in one file."""
    folder = copy_project(tmp_path_factory.mktemp("digests"))
    with open(folder / "Snakefile", "a") as opened:
        opened.write(PROBE)

    def ask(file=None):
        path = folder / "workflow/scripts/refers" / (file or "__init__.py")
        text = path.read_text()
        if file:
            path.write_text(text + "\nADDED = 1\n")
        done = snakemake("--list-rules", folder=folder)
        path.write_text(text)
        assert done.code == 0, done.output
        return json.loads((folder / "digests.json").read_text())

    return ask


@pytest.fixture(scope="module")
def unchanged(of_rules):
    return of_rules()


def test_modules_are_imported_by_name_in_one_form():
    for path in LIBRARY.parent.rglob("*.py"):
        code_digests._facts(path)  # raises at another form
        assert not re.search(r"\brunpy\b|spec_from_file_location", path.read_text()), path


def test_every_package_imported_by_name_is_covered_where_it_is_reached(unchanged):
    reached = set()
    for rule, found in unchanged.items():
        for module in found:
            path = LIBRARY / f"{module.replace('.', '/')}.py"
            path = path if path.exists() else path.with_suffix("") / "__init__.py"
            for package in BY_NAME.findall(path.read_text()) if path.exists() else []:
                assert any(other.startswith(f"{package}.") for other in found), (rule, package)
                reached.add((rule.partition(":")[0], package))
    assert {
        ("generate_demo", "demo"),
        ("index_source", "data.adapters"),
        ("attend", "data.adapters"),
    } <= reached
    assert {("pretrain", "methods"), ("calibrate", "methods")} <= reached


RULES = ("pilot", "pretrain")
LSP = [
    f"{rule}:lsp_{name}" for rule in RULES for name in ("transformer", "resnet18", "resnet50", "resnet101")
]
ABLATIONS = ("resnet101", "plain_vit", "no_fusion", "no_contrast", "no_generation")
REFERS = ["refers", *(f"refers_{name}" for name in ABLATIONS)]


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        ("demo/shenzhen.py", {"generate_demo"}),
        ("data/adapters/nih.py", {"index_source:nih", "characteristics:nih", "attend:figure3_nih"}),
        ("data/adapters/covid.py", {"index_source:covid", "characteristics:covid"}),
        ("methods/lsp.py", {"calibrate", *LSP}),
        (
            "methods/common/contrast.py",
            {"calibrate", *(f"{rule}:{name}" for rule in RULES for name in ("c2l", *REFERS))},
        ),
    ],
)
def test_a_changed_statement_reruns_what_uses_it_and_nothing_else(of_rules, unchanged, file, rules):
    found = of_rules(file)
    changed = {rule for rule in found if found[rule] != unchanged[rule]}
    assert changed == rules
