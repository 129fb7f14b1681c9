"""The config file as a whole: what `config/config.yaml` and its overlays may hold.

Settings of pre-training and fine-tuning are parts of `refers.config.settings`: here they are maps, since a method, a dataset
and a cell each give some of the keys. `refers.study` merges and checks them.
"""

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from refers.config.fields import Text
from refers.config.publication import Publication
from refers.config.settings import Features, Pilots, ProbeRule, Section, Seed, Share, SplitRule, Unique

NAME = r"[a-z][a-z0-9_]*"  # of methods, datasets, sources, groups, tables and figures: parts of paths and rule wildcards
CELL = r"[a-z][a-z0-9_]*/[0-9]+"


# how a folder inside an installed Python package begins
PACKAGE = "package:"


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME, name) or "_vs_" in name:
        raise ValueError(
            f"{name!r} is not a name: use lower-case letters, digits and _, a letter first, and no _vs_ inside"
        )
    return name


def _nothing(fragment: Any) -> Any:
    return {} if fragment is None else fragment


def _check_pattern(pattern: str) -> str:
    for part in pattern.split("|"):
        names = part.split("/")
        if not part or "\0" in part or names[0] == "" or ".." in names:
            raise ValueError(f"{pattern!r} is no pattern of paths below the folder; write one, or this|that")
        if any("**" in name and name != "**" for name in names):
            raise ValueError(f"{pattern!r} has ** beside other letters; write it alone between two /")
    return pattern


def _check_folder(path: str) -> str:
    if found := re.search(r"[{}<>\x00-\x1f\x7f]", path):
        raise ValueError(f"{path!r} contains {found[0]!r}, which Snakemake takes for a pattern; rename it")
    if path.startswith("-") or path.strip() != path:
        raise ValueError(f"{path!r} starts with - or a blank, or ends with a blank; rename it")
    return path


def _check_spelling(path: str) -> str:
    # Snakemake compares file names as text
    if path != (plain := os.path.normpath(path)):
        raise ValueError(f"{path!r} is spelt with more than it needs; write {plain!r}")
    return path


Name = Annotated[str, AfterValidator(_check_name)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_check_pattern)]
OptionalPattern = Annotated[str, AfterValidator(lambda text: text and _check_pattern(text))]
Folder = Annotated[Text, AfterValidator(_check_folder)]  # or a file; blanks and quotes are fine
Place = Annotated[Folder, AfterValidator(_check_spelling)]
CellName = Annotated[str, Field(pattern=f"^{CELL}$")]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Amount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Splits = Annotated[int, Field(ge=1, le=1000)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Percent = Annotated[int, Field(ge=1, le=100)]
Some = Field(min_length=1)
Fragment = dict[str, Any]  # some of the keys of other settings; what they are merged to is checked as a whole


class Pathvars(Section):
    """Folders of a study's files. Overlays move them, so that studies never mix."""

    results: Place = Field("results", description="Encoders, predictions, cells, tables.")
    store: Place = Field(
        "build/store",
        description="Indexes, image stores and cleaned reports: what depends on the downloads alone.",
    )
    interim: Place = Field("build/interim", description="Report tokens, splits and label subsets.")
    logs: Place = Field("logs", description="One log per job.")
    benchmarks: Place = Field("benchmarks", description="Time and memory of every job.")


class Release(Section):
    """Published totals of one release of a download that grew."""

    images: Count
    patients: Count | None = None
    labels: dict[str, Amount] = Field({}, description="Positive images by class.")


class Expected(Section):
    """Published totals that preflight compares with; what is left out is unknown."""

    images: Count | None = None
    patients: Count | None = None
    reports: Count | None = None
    labels: dict[str, Amount] = Field({}, description="Positive images by class.")
    splits: dict[str, Amount] = Field({}, description="Images by official set.")
    releases: dict[str, Release] = Field(
        {},
        description="Totals by release, of a download that grew; the one with as many images as its table lists counts.",
    )


class Source(Section):
    """An official download."""

    layout: Name = Field(description="Adapter: a file in workflow/scripts/refers/data/adapters/.")
    folder: Folder = Field(description="Folder below data_root.")
    files: Annotated[list[Pattern], Unique] = Field(
        [],
        description="Tables that the index is made from; a pattern takes the last match by name, and `this|that` the first"
        " alternative that exists.",
    )
    images: Pattern = Field(
        description="Pattern that matches something where the images are in place, or alternatives with `|`."
    )
    reports: OptionalPattern = Field("", description="The same for the reports, of a source that has some.")
    boxes: OptionalPattern = Field(
        "", description="The same for radiologists' boxes, of a source that has some."
    )
    characteristics: Annotated[list[Literal["sex", "age", "projection"]], Unique] = Field(
        [], description="What its tables say of an image's patient and view: groups whose AUC is compared."
    )
    origin: str = Field("", description="Where to get it; preflight prints this.")
    credit: str = Field(
        "",
        description="Citation and licence of its images, printed where the page shows the study or an image of it.",
    )
    access: str = Field("", description="How large it is and what its owner asks for; preflight prints this.")
    expected: Expected | None = Field(
        None, description="Published totals that preflight compares with; null expects nothing."
    )


class Images(Section):
    """The stores of decoded images."""

    size: int = Field(
        256, ge=8, le=2048, description="Side of the stored square images in pixels (paper 256)."
    )
    tolerance: Share = Field(
        0.0,
        description="Largest share of a source's images that may be unreadable. They are listed in quarantine.csv beside"
        " the store and are used for nothing; with more of them the run stops. A new value counts for stores made from"
        " then on.",
    )


class SmallBert(Section):
    """Sizes of the BERT that is built from the reports."""

    vocabulary: int = Field(ge=100, le=1_000_000)
    width: int = Field(ge=8, le=4096)
    depth: int = Field(ge=1, le=64)
    heads: int = Field(ge=1, le=64)
    max_length: int = Field(ge=4, le=512)
    dropout: float = Field(ge=0, le=0.9)
    seed: Seed


class Reports(Section):
    """Report tokens and the text encoder."""

    encoder: Folder | None = Field(
        None,
        description="Folder of a BERT checkpoint; `package:PACKAGE/FOLDER` is one inside a Python package that is installed"
        " beside Snakemake; null builds a small random one from the reports (`build`).",
    )
    max_length: int = Field(100, ge=4, le=512, description="Tokens kept of a report, start and end included.")
    swap: Literal["word", "substring"] = Field(
        "word",
        description="How left and right change places in the report of a flipped study: whole words, with RUL, L > R,"
        " leftward and the like (paper's intent), or any substring (code).",
    )
    build: SmallBert | None = Field(None, description="Sizes of the built BERT.")

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        named = self.encoder or ""
        if named.startswith(PACKAGE) and not re.fullmatch(rf"{PACKAGE}[A-Za-z]\w*(/[\w-][\w.-]*)+", named):
            raise ValueError(
                f"encoder: {named!r} is not package:PACKAGE/FOLDER, as in package:some_bert/model"
            )
        if self.encoder is None and self.build is None:
            raise ValueError("encoder null builds a BERT, so build must give its sizes")
        return self


class Dataset(Section):
    """A column group of the tables."""

    title: Text = Field(description="Column group in the tables.")
    source: str = Field(description="The download it reads.")
    classes: Annotated[list[Text], Some, Unique] = Field(
        description="Labels in table order; one label is a binary task."
    )
    views: Annotated[list[Literal["frontal", "lateral", "ct", "other"]], Some, Unique] = Field(
        ["frontal"], description="Views that count."
    )
    split: SplitRule
    released: Folder | None = Field(None, description="Folder of its lists below released_lists.")
    comparable: bool = Field(
        True,
        description="Whether its test images are the paper's, or drawn from the same pool; where not, no number is judged"
        " against the paper's.",
    )
    accept: Annotated[list[Literal["patients", "duplicates"]], Unique] = Field(
        [], description="Leakage to live with: patients, or pictures, that are in several sets."
    )
    findings: dict[Text, Annotated[list[str], Some, Unique]] = Field(
        {},
        description="Findings by the names that datasets share, each with its classes here, for tables that show `external`, which"
        " check them. Of several classes an image has the finding where it has any, and their highest score counts.",
    )
    own: bool = Field(
        False,
        description="A dataset beyond the paper's: its `ratios` are columns behind those of study.cells, and it gets figures"
        " of its own (ROC, AUC against label ratio), and a table by class where it has several.",
    )
    ratios: Annotated[list[Percent], Some, Unique] = Field(
        [1, 10, 100], description="Label ratios in percent of its columns, where it is `own`."
    )
    splits: Splits | None = Field(
        None, description="Splits of it instead of study.splits, where it is `own`."
    )


class Subset(Section):
    """The label subsets."""

    seed: Seed = Field(0, description="Drawing of the label subsets.")
    per_seed: bool = Field(
        False,
        description="Draw another subset for every fine-tuning seed, as the released README does; by default the seeds of a"
        " split share one.",
    )


class Method(Section):
    """A row of the tables."""

    title: Text = Field(description="Name in the tables.")
    note: str = Field("", description="Footnote in the tables.")
    own: bool = Field(
        False, description="A method beyond the paper's: it runs, and every table prints it below its rows."
    )
    checkpoint: Folder | None = Field(
        None,
        description="Import this instead of pre-training: a file, `timm:NAME` to download timm's weights, or `random`, which"
        " has learnt nothing. Added to a method that has `pretrain` settings too, it makes these of no use, as preflight and a"
        " footnote of the tables say.",
    )
    checkpoint_key: Text | None = Field(
        None,
        description="Beside a checkpoint that is a file with several networks: where the one that is meant stands, such as"
        " `teacher`, `state_dict_ema` or `model.encoder`; `.` is the file itself.",
    )
    encoder_of: Name | None = Field(
        None,
        description="Fine-tune the encoder of this method, with its fine-tuning settings below one's own; nothing is"
        " pre-trained or imported.",
    )
    like: Name | None = Field(
        None,
        description="Start from the model, finetune and, without a checkpoint, pretrain of this method, whatever an overlay"
        " makes of them: a control differs in what its entry says and in nothing else.",
    )
    model: Fragment = Field({}, description="Architecture, over pretrain.model.")
    pretrain: Annotated[Fragment, BeforeValidator(_nothing)] = Field(
        {},
        description="Settings over pretrain; see $defs/Pretrain. null removes those of the config below an overlay, as beside"
        " a checkpoint, which replaces the pre-training.",
        json_schema_extra={"type": ["object", "null"]},
    )
    finetune: Fragment = Field({}, description="Settings over finetune; see $defs/Finetune.")

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        if self.checkpoint_key and (
            self.checkpoint in (None, "random") or self.checkpoint.startswith("timm:")
        ):
            raise ValueError("checkpoint_key is of a checkpoint that is a file; remove it, or name the file")
        others = [name for name in ("checkpoint", "like", "model", "pretrain") if getattr(self, name)]
        if self.encoder_of and others:
            raise ValueError(
                f"encoder_of takes another method's encoder as it is; leave out {', '.join(others)}"
            )
        # The start of a method that it is like decides the activation of an untrained encoder.
        idle = self.pretrain.keys() - ({"init"} if self.checkpoint == "random" else set())
        if self.checkpoint and idle:
            raise ValueError(
                "checkpoint takes the place of the pre-training, so its settings would have no effect;"
                " add `pretrain: null` beside the checkpoint, or remove the checkpoint"
            )
        return self


class Group(Section):
    """A row that prints, column by column, the member which validated best."""

    title: Text
    note: str = ""
    best_of: Annotated[list[str], Some, Unique]


class FinetuneSettings(Section):
    """Fine-tuning settings from the general to the particular."""

    defaults: Fragment = Field(description="Settings of every fine-tune; see $defs/Finetune.")
    datasets: dict[str, Fragment] = Field({}, description="Settings by dataset, over the defaults.")
    cells: dict[str, Fragment] = Field({}, description="Settings by cell, such as nih/1, over the dataset's.")


class ProbeSettings(ProbeRule):
    """The linear probe, protocol of tables with `protocol: probe`."""

    features: Features = Field(Features(), description="Features that it reads.")


class Columns(Section):
    """Cells of one dataset."""

    dataset: str
    ratios: Annotated[list[Percent], Some, Unique] = Field(description="Label ratios in percent.")
    splits: Splits | None = Field(None, description="Splits of this dataset, instead of study.splits.")


class Bootstrap(Section):
    """Intervals over test images; whole patients are drawn where they are known."""

    resamples: int = Field(ge=100, le=1_000_000)
    seed: Seed
    undefined: Share = Field(
        description="Largest share of resamples that leave a class with one label only. With more of them no interval and no"
        " paired p is printed; with fewer it is taken over the others, and a note says so."
    )


class Grid(Section):
    """What runs: methods x cells x splits x seeds. Lists choose what to run; the maps beside them describe it."""

    methods: Annotated[list[str], Some, Unique]
    cells: list[Columns] = Field(
        [], description="Columns of the tables; those of datasets marked `own` follow by themselves."
    )
    splits: Splits = Field(
        1,
        description="Splits drawn of every dataset, each with label subsets of its own; a cell averages over splits and seeds."
        " Split k is drawn with datasets.*.split.seed + k, its subsets with subset.seed + k. Official and released test"
        " lists are the same in all of them.",
    )
    seeds: Annotated[list[Seed], Some, Unique] = Field(
        description="Fine-tuning seeds, the same on every split."
    )
    minority_patients: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="Patients with the rarer label of a class below which preflight and the check of a split warn.",
    )
    bootstrap: Bootstrap

    @model_validator(mode="after")
    def _check_cells(self) -> Self:
        names = [f"{columns.dataset}/{ratio}" for columns in self.cells for ratio in columns.ratios]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"cells: {', '.join(twice)} is listed twice; keep one of the two")
        found: dict[str, int | None] = {}
        for columns in self.cells:
            if found.setdefault(columns.dataset, columns.splits) != columns.splits:
                raise ValueError(
                    f"cells: {columns.dataset} is listed with two numbers of splits; give it one"
                )
        return self


class Measures(Section):
    """Measures beside the AUC, of the tables with `shows: measures` and the figures with `kind: reliability`."""

    bins: int = Field(10, ge=2, le=1000, description="Bins of equal width of the calibration error.")
    specificity: float = Field(
        95,
        ge=0,
        le=100,
        description="In percent: the sensitivity is that of the ROC curve at this specificity.",
    )


class Subgroups(Section):
    """Groups of test images, of the tables with `shows: subgroups`."""

    ages: Annotated[list[Annotated[int, Field(ge=1, le=120)]], Unique] = Field(
        [18, 40, 60], description="Years at which a band of age ends and the next begins, ascending."
    )
    patients: Count = Field(
        10,
        description="Fewest patients with a class, and without it, with which a group of test images has an AUC of it.",
    )

    @model_validator(mode="after")
    def _check_ages(self) -> Self:
        if self.ages != sorted(self.ages):
            raise ValueError(f"ages: {self.ages} must ascend")
        return self


class Tier(Section):
    """A part of the study to add up: rows and columns of it, all by default."""

    title: Text
    methods: Annotated[list[str], Some, Unique] | None = None
    cells: Annotated[list[CellName], Some, Unique] | None = None
    checkpoints: dict[str, Text] = Field(
        {}, description="Methods that this part imports instead of pre-training them, each from a checkpoint."
    )
    add: Annotated[list[str], Unique] = Field(
        [], description="Methods that this part runs beyond those of the study."
    )
    targets: Annotated[list[Literal["tables", "figures", "cells"]], Unique] = Field(
        [],
        description="Targets of Snakemake that this part makes; all of them where it names no rows or columns either.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.targets and (self.methods or self.cells):
            raise ValueError("targets are made whole; leave out targets, or methods and cells")
        return self


class PublishedRates(Section):
    """Rates at which others train on a GPU."""

    device: Text = Field(description="The GPU; where `plan.device` is another one, the rates are not used.")
    source: Text = Field(description="Where they are published.")
    rates: dict[Literal["transformer", "residual"], Positive] = Field(
        description="In TFLOP/s, by kind of network."
    )


class Plan(Section):
    """`snakemake plan`: what the study costs before it runs. Jobs that ran count with their benchmark files."""

    device: Text = Field(description="The GPU that hours are planned for where this machine has none.")
    tflops: Positive = Field(description="Its peak in the study's precision, dense, in TFLOP/s.")
    utilisation: PositiveShare = Field(description="Share of the peak that training reaches.")
    published: PublishedRates | None = Field(
        None,
        description="Rates of training that others publish of it: assumed hours are a range up to these.",
    )
    cpu_tflops: Positive = Field(description="Speed of processors where none was timed, in TFLOP/s.")
    memory_gib: Positive = Field(description="Memory of the GPU; jobs that need more are named.")
    steps: int = Field(
        ge=0,
        le=1000,
        description="Real training steps that are timed on this machine for each kind of encoder; 0 times none.",
    )
    gpus: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Some, Unique] = Field(
        description="Numbers of GPUs to plan for."
    )
    images: dict[str, Count] = Field(
        description="Images by source, where none is indexed and sources.*.expected gives no number."
    )
    studies: Count = Field(description="Studies of MIMIC-CXR with a report, where it is not indexed.")
    held_out: Share = Field(description="Share of them that validates.")
    table: str = Field(
        description="The table of the main rows: the plan counts the others, ablations and controls, apart."
    )
    tiers: list[Tier]


class GpuCheck(Section):
    """`snakemake gpu_check`: real steps of every method on random data, before days of a GPU are booked."""

    seconds: int = Field(
        450,
        ge=5,
        le=86_400,
        description="Seconds that all checks may take together. The important ones come first; those that the time does not"
        " reach are said to be out of time.",
    )


class Alike(Section):
    """From which values on the audit names a relation of two files that is not exact."""

    gamma: PositiveShare = Field(
        description="Size of Goodman and Kruskal's gamma, among the positives and among the negatives, of files that are"
        " nearly monotone maps of one another. At 0.9, of the pairs of images that neither file ties 1 in 20 is in the other"
        " order."
    )
    kappa: PositiveShare = Field(
        description="Cohen's kappa of equal scores, among the positives or among the negatives, of files with many identical"
        " scores: (identical - expected) / (1 - expected), where expected is the share that chance makes equal."
    )


class Audit(Section):
    """The authors' released prediction files; `snakemake audit` measures them."""

    results: Text = Field(
        description="Their folder beside the one of released_lists, or an archive of that name, or one of the whole"
        " repository (docs/data.md)."
    )
    table: str = Field(
        description="The table whose printed numbers, and whose reference, they are compared with."
    )
    methods: dict[Text, str] = Field(description="Method by the name of its folder.")
    cells: dict[Text, CellName] = Field(
        description="Cell, such as nih/1, by its folder below results; each has a folder per method with a file per class."
    )
    patients: dict[str, Text] = Field(
        description="By dataset: regular expression of the part of an image's name that is its patient's. Where the released"
        " test list has the labels of the files row for row, its patients are resampled; elsewhere images are."
    )
    alike: Alike


class Table(Section):
    """A table of the study."""

    title: Text
    label: str = Field("", description="What it is called, such as Table 1; LaTeX counts for itself.")
    rows: Annotated[list[str], Some, Unique] = Field(description="Methods or groups.")
    protocol: Literal["finetune", "probe"] = Field(
        "finetune", description="Fine-tuned encoders (paper), or a linear probe of frozen ones (`probe`)."
    )
    shows: Literal["auc", "measures", "subgroups", "external"] = Field(
        "auc",
        description="AUC; average precision, Brier score, calibration error and sensitivity (`measures`); AUC by sex, age"
        " and projection (`subgroups`); or AUC on the test images of another dataset (`external`), for which the fine-tunes of"
        " its rows and columns keep their classifiers. The latter three are never compared with the paper.",
    )
    tested_on: str = Field(
        "", description="external: the dataset whose test images the classifiers of `columns` predict."
    )
    comparable: bool = Field(
        True,
        description="The paper has this table, so that ours is compared with it. A probe's is never compared.",
    )
    pretrain_seeds: bool = Field(
        False, description="Also list every method with several pretrain.seeds, a row per seed."
    )
    reference: str | None = Field(None, description="Row that the p-values compare.")
    baseline: str | None = Field(
        None, description="Row that it is compared with, or best: the best other row of the column."
    )
    columns: Annotated[list[CellName], Some, Unique] | None = Field(
        None, description="Cells of the study to print, such as nih/1; all of them by default."
    )
    per_class: str | None = Field(
        None,
        description="Dataset whose classes are printed one by one, with a p-value each; without it a number is the mean over"
        " classes.",
    )
    marks: dict[str, Annotated[list[str], Unique]] = Field(
        {}, description="By row: the parts in place, printed as check marks."
    )
    independent: bool = Field(
        False,
        description="Print what others report for its rows and columns (`reported`) below the methods.",
    )
    against: str | None = Field(
        None,
        description="Print, instead of AUCs, the difference of each row to this method, paired over the test images, with"
        " its interval.",
    )

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if self.reference and not self.baseline:
            raise ValueError("reference needs a baseline to be compared with: a row, or best")
        if self.reference and self.reference == self.baseline:
            raise ValueError(f"reference and baseline are both {self.baseline}; name two rows, or best")
        for key, row in (("reference", self.reference), ("baseline", self.baseline)):
            if row not in (None, "best", *self.rows):
                raise ValueError(
                    f"{key} {row} is not one of its rows; add it, or name one of {', '.join(self.rows)}"
                )
        if self.against and (self.reference or self.per_class or self.protocol == "probe"):
            raise ValueError(
                "against compares fine-tuned rows with one method; leave out reference, per_class and protocol"
            )
        if self.shows != "auc" and (
            self.reference or self.per_class or self.against or self.independent or self.protocol == "probe"
        ):
            raise ValueError(
                f"shows {self.shows} is of fine-tuned rows alone; leave out reference, per_class, against, independent and"
                " protocol"
            )
        if (self.shows == "external") != bool(self.tested_on) or (self.tested_on and not self.columns):
            raise ValueError(
                "shows external, tested_on and columns belong together: whose classifiers are tested on what"
            )
        if self.reference and self.protocol == "probe":
            raise ValueError("a probe runs once, so there are no t-tests; leave out reference and baseline")
        return self


class ReportedNumber(Section):
    """An AUC that others print for a column, on the same test images."""

    title: str = Field("", description="What they did; the title of `row` by default.")
    row: str = Field(description="Row of ours that is judged against it.")
    column: CellName = Field(description="Cell, such as nih/1.")
    auc: float = Field(ge=0, le=100, description="In percent, as printed.")
    runs: Count = Field(1, description="Runs behind it.")


class ReportedSource(Section):
    """A publication other than the paper, with numbers in config/reported.csv or in `numbers`."""

    title: Text = Field(description="Its short name in the tables.")
    citation: Text = Field(description="Where its numbers are printed.")
    differs: Text = Field(description="What differs from the protocol of our rows, printed under the tables.")
    numbers: list[ReportedNumber] = Field(
        [],
        description="Its numbers on the test images of our columns: ours are judged against them, as against the paper's."
        " Those of config/reported.csv, of other test images, are shown and never judged.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = [(each.title or each.row, each.row, each.column) for each in self.numbers]
        for title, row, column in named:
            if named.count((title, row, column)) > 1:
                raise ValueError(
                    f"numbers: {title} is listed twice for {row} in {column}; keep one of the two"
                )
        return self


class Figure(Section):
    """A figure of the study."""

    title: Text
    kind: Literal["rules", "ratios", "roc", "reliability", "curves", "attention"] = Field(
        description="The rule graph, AUC against label ratio, one panel per class with ROC or with reliability curves (in"
        " `measures.bins` bins), training curves of every encoder, or class activation maps with radiologists' boxes."
    )
    dataset: str | None = None
    ratio: Percent | None = Field(None, description="roc, reliability, attention: label ratio in percent.")
    images: Count | None = Field(None, description="attention: findings to draw, at random.")
    threshold: PositiveShare | None = Field(
        None, description="attention: where a map from 0 to 1 becomes a box."
    )
    methods: Annotated[list[str], Some, Unique] | None = Field(
        None, description="Lines; the first one is ours."
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        needed = {"ratios": ["dataset", "methods"], "roc": ["dataset", "methods", "ratio"]}
        needed |= {"reliability": needed["roc"], "attention": [*needed["roc"], "images", "threshold"]}
        if missing := [key for key in needed.get(self.kind, []) if getattr(self, key) is None]:
            raise ValueError(f"kind {self.kind} needs {', '.join(missing)}")
        return self


class Verdict(Section):
    """How our AUC is judged against the printed one, fixed before any result: by the interval of their difference.

    Consistent where the whole interval is within the margin, different where it excludes zero and is not, else too noisy to
    tell; `refers.evaluation.verdict` has the formula.
    """

    level: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the interval.")
    margin: float = Field(
        1.0, gt=0, le=100, description="AUC points to either side that are no difference worth the name."
    )


class TrainingPart(Section):
    """The part of the config that training steps depend on."""

    device: Literal["cuda", "cpu", "auto"] = Field(
        description="Where GPU jobs run: cuda insists on a GPU, auto takes one where there is one."
    )
    text: Reports
    methods: dict[Name, Method] = Field(description="Rows of the tables.")
    pretrain: Fragment = Field(
        description="Start of every method's pre-training settings; see $defs/Pretrain."
    )
    finetune: FinetuneSettings
    study: Grid


class StudyConfig(TrainingPart):
    """Every key of config/config.yaml and of its overlays."""

    pathvars: Pathvars = Pathvars()
    cuda: Literal["auto", 12, 13] = Field(
        "auto",
        description="CUDA of the torch in the conda environment of GPU jobs (`--sdm conda`). auto: 12 where nvidia-smi shows a"
        " driver older than 580 on the machine that Snakemake runs on, else 13; name it where jobs run elsewhere.",
    )
    data_root: Folder = Field(description="Folder below which the official downloads are.")
    released_lists: Folder = Field(description="Split lists of the authors' repository, below data_root.")
    preflight: Literal["quick", "full"] = Field(
        "quick", description="What `snakemake preflight` does: count images, or decode every one."
    )
    note: str = Field("", description="Printed under every table; overlays say there what they are.")
    claims: Folder | None = Field(
        "config/claims.yaml", description="The paper's claims to check; null checks none."
    )
    comparable: bool = Field(
        True,
        description="Whether the data are the paper's. Where they are not, no number and no claim is judged against the"
        " paper's numbers.",
    )
    publication: Publication | None = Field(
        None, description="Who publishes the results, and how; `snakemake crate` needs it."
    )
    sources: dict[Name, Source] = Field(description="Official downloads by name.")
    origins: dict[str, str] = Field(
        {},
        description="Where checkpoints come from, by the path that the config names them with; preflight prints this.",
    )
    images: Images
    datasets: dict[Name, Dataset] = Field(description="Columns of the tables.")
    subset: Subset
    pilots: Pilots = Field(
        Pilots(), description="Learning-rate pilots of the methods whose pretrain.rate is `pilot`."
    )
    probe: ProbeSettings = Field(ProbeSettings(), description="The linear probe of frozen encoders.")
    measures: Measures = Field(Measures(), description="Measures beside the AUC.")
    subgroups: Subgroups = Field(Subgroups(), description="Groups of test images.")
    groups: dict[Name, Group] = Field({}, description="Rows that print the best of several methods.")
    plan: Plan
    gpu_check: GpuCheck = Field(GpuCheck(), description="The check of a GPU.")
    audit: Audit
    reported: dict[Name, ReportedSource] = Field(
        {},
        description="Publications whose numbers tables print beside the paper's, by their `source` in config/reported.csv or"
        " with `numbers`.",
    )
    tables: dict[Name, Table]
    figures: dict[Name, Figure]
    verdict: Verdict = Field(
        Verdict(), description="How our AUC is judged against the printed one, fixed before any result."
    )
