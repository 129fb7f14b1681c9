"""What a job costs: seconds, memory and bytes, measured by its benchmark file, or estimated where it has not run.

Training is counted in FLOPs (a multiply-add is two), by `refers.planning.step_costs` on fake tensors, and divided by a
speed: that of twenty steps on this machine's device, or the one that the config assumes for another device. Jobs on CPUs
have rough rates, which one finished run replaces. No torch.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from refers import config
from refers.config.study import Expected
from refers.errors import UserError
from refers.files import read_object
from refers.planning.jobs import Job, finetune_key, pretrain_key, speed_key
from refers.provenance.run_record import digest
from refers.study import paths
from refers.study.availability import trained_settings
from refers.study.study import Study

PARTS = ("train", "val", "test")
# Assumed seconds of a job on one core: start and finish, and per image of its source (per report, per test image). The
# first are those of the benchmark files of the demo and of config/real.yaml, the others of the sizes of NIH and MIMIC-CXR.
CPU_SECONDS = {
    "index_source": (0.7, 1e-4),
    "pack_images": (0.7, 0.02),
    "clean_reports": (0.7, 8e-5),
    "build_text_encoder": (6, 0),
    "copy_text_encoder": (0.5, 0),
    "tokenize_reports": (3, 2e-4),
    "pool_images": (0.7, 2e-4),
    "discover_words": (2, 2e-3),
    "generate_checkpoint": (0.3, 0),
    "import_encoder": (4, 0),
    "split_dataset": (0.7, 1e-5),
    "check_split": (0.7, 5e-5),
    "label_subset": (0.6, 0),
    "probe": (1, 5e-4),
    "cell": (0.6, 8e-5),
    "probe_cell": (0.6, 8e-5),
    "measures": (0.7, 1.7e-4),
    "subgroups": (0.9, 1.3e-4),
    "external": (1.2, 1.3e-4),
    "characteristics": (0.7, 1e-5),
    "ttest": (0.6, 1.5e-4),
    "figure": (2, 0),
    "table": (0.25, 0),
    "cell_index": (0.15, 0),
}
LIGHT = 0.6  # seconds of other jobs
DICOM_SECONDS = 1.0  # JPEG 2000 of 3,000 x 3,000, the dearest coding; a raw one takes 0.02
# a kind of step that `refers.planning.step_costs` could not count, and the source of its cost
UNCOUNTED = "uncounted"
START = 10  # seconds until a training program begins: torch, the device, the data
PARALLEL = ("pack_images", "clean_reports", "discover_words")
TRAINING = ("pilot", "pretrain", "finetune")
GPU_RULES = (*TRAINING, "attend", "extract_features", "predict")
CELL_RULES = ("cell", "probe_cell", "measures", "subgroups", "external", "ttest")
# what the entry of a counted step has
STEP = {"flops", "forward_flops", "parameters", "gpu_bytes", "batch", "encoder_parameters"}
FLOAT, TOKEN_BYTES, REPORT_BYTES = 4, 2, 500
ROW_BYTES, LABEL_BYTES = 24, 9  # of predictions.parquet: the ids of a row, and a label with its score
MOMENTS = {"sgd": 1, "adam": 2}
WRITING = 2  # resume states on disk while a new one is written beside the last


@dataclass(frozen=True)
class Cost:
    """What a job costs.

    source: `measured` (benchmark file, or the step that gpu_check timed), `calibrated` (FLOPs at this machine's speed), `assumed`, or `uncounted`, whose
    seconds are those of its start alone. flops: of training jobs, 0 where they cannot be counted. ram_mib, gpu_mib:
    peaks, None where unknown. disk: bytes of its outputs; transient: peak bytes of resume states while it runs.
    fast: seconds at the rates that others publish for the assumed GPU, where these replace an assumed speed. validation:
    share of `flops` that validations take.
    """

    seconds: float
    source: str
    flops: float = 0.0
    ram_mib: float | None = None
    gpu_mib: float | None = None
    disk: float = 0.0
    transient: float = 0.0
    fast: float | None = None
    validation: float = 0.0

    @property
    def fastest(self) -> float:
        """Seconds at the best rate that is known."""
        return self.seconds if self.fast is None else min(self.seconds, self.fast)


class CostModel:
    """Estimates the cost of a study's jobs.

    Args:
        study: the study.
        measured: content of steps.json (calibrate.py), with that of gpu_check.json under `gpu_check` where there is one.
        resources: rule -> threads and mem_mb as the rules ask for them.

    Raises:
        UserError: steps.json is of another study, or the number of images of a source is unknown.
    """

    def __init__(self, study: Study, measured: dict, resources: dict[str, dict]) -> None:
        self.study, self.steps, self.speeds = study, measured["steps"], measured["speeds"]
        self.resources, self.plan = resources, study.config.plan
        self.timed = timed_steps(measured) if self.is_of_the_device(measured) else {}

    def estimate(self, job: Job) -> Cost:
        """The cost of a job; a measurement replaces an estimate."""
        cost = self.expected(job)
        seconds, ram = self.benchmark(job)
        if seconds is None:
            return cost
        return replace(cost, seconds=seconds, source="measured", ram_mib=ram, fast=None)

    def threads(self, rule: str) -> int:
        return int(self.resources.get(rule, {}).get("threads", 1))

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`, on which the study trains; `auto` means the CPU where nothing else was timed."""
        wanted, timed = self.study.config.device, {speed["kind"] for speed in self.speeds.values()}
        if wanted == "auto":
            return "cpu" if timed == {"cpu"} else "cuda"
        return wanted

    def is_of_the_device(self, measured: dict) -> bool:
        """Whether gpu_check ran on the device that steps.json timed, or, where that timed no GPU, on any GPU."""
        checked = measured.get("gpu_check", {})
        timed = {speed["device"] for speed in self.speeds.values() if speed["kind"] == "cuda"}
        same = checked.get("kind") == "cpu" or not timed or checked.get("device") in timed
        return same and checked.get("kind") == ("cpu" if self.kind == "cpu" else "cuda")

    def uses_gpu(self, job: Job) -> bool:
        return job.rule in GPU_RULES and self.study.config.device != "cpu"

    # ---- measured

    def benchmark(self, job: Job) -> tuple[float | None, float | None]:
        """Seconds and MiB of a job's last run, if that was a complete one with the current settings."""
        try:
            text = Path(job.benchmark).read_text(encoding="utf-8")
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            seconds, ram = float(lines[-1]["s"]), lines[-1].get("max_rss")
            found = seconds, None if ram in (None, "NA") else float(ram)
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            return None, None
        return found if self._is_current(job) else (None, None)

    def _is_current(self, job: Job) -> bool:
        """Whether what a training job recorded shows that its benchmark is of one complete, planned run."""
        if job.rule == "pretrain":
            record = self.study.resolve(paths.ENCODER_RECORD, **job.wildcards)
            wanted = {record: config.to_dict(trained_settings(self.study, **job.wildcards))}
        elif job.rule == "pilot":
            pretrain = config.to_dict(self.study.pretrain_settings(**job.wildcards))
            wanted = {
                Path(job.target): {"pretrain": pretrain, "pilots": config.to_dict(self.study.config.pilots)}
            }
        elif job.rule == "finetune":
            settings = config.to_dict(self._tuning(job))
            wanted = {
                self.study.resolve(paths.RUN_RECORD, **job.wildcards, seed=seed): config.merge(
                    settings, {"training": {"seed": seed}}
                )
                for seed in self.study.seeds
            }
        else:
            return True
        for path, settings in wanted.items():
            try:
                record = read_object(path, "run record")
            except UserError:
                return False
            if record.get("settings_sha256") != digest(settings) or record.get("resumed_at"):
                return False
            if record.get("processes", 1) != 1 or (record.get("device") == "cpu") != (self.kind == "cpu"):
                return False
        return True

    # ---- estimated

    def expected(self, job: Job) -> Cost:
        """The cost of a job as if it had never run."""
        if job.rule in ("pilot", "pretrain"):
            return self._pretraining(job)
        if job.rule == "finetune":
            return self._finetuning(job)
        if job.rule == "extract_features":
            return self._features(job)
        if job.rule == "predict":
            return self._predicting(job)
        fixed, each = CPU_SECONDS.get(job.rule, (LIGHT, 0))
        items = self._items(job)
        if job.rule == "pack_images" and self.study.source(job.wildcards["source"]).layout == "vinbigdata":
            each = DICOM_SECONDS
        if job.rule == "attend":
            fixed = START
        workers = self.threads(job.rule) if job.rule in PARALLEL else 1
        return Cost(
            fixed + each * items / workers, "assumed", 0.0, self._ram(job), None, self._disk(job, items)
        )

    def _items(self, job: Job) -> int:
        """Images, studies or reports that a job reads."""
        if "source" in job.wildcards:
            return self.images(job.wildcards["source"])
        if job.rule in ("clean_reports", "tokenize_reports"):
            return self.studies
        if job.rule == "discover_words":
            return self._images_to_pretrain(job.wildcards["method"])
        if job.rule == "pool_images":
            return sum(map(self.images, self.study.pools()[job.wildcards["pool"]]))
        if "dataset" in job.wildcards:
            sizes = self.sizes(job.wildcards["dataset"])
            tested = len(self.study.splits(job.wildcards["dataset"])) * sizes["test"]
            return tested if job.rule in CELL_RULES else sum(sizes.values())
        return 0

    def _disk(self, job: Job, items: int) -> float:
        if job.rule in ("pack_images", "pool_images"):
            return items * self.study.config.images.size**2
        if job.rule == "clean_reports":
            return items * REPORT_BYTES
        if job.rule == "tokenize_reports":
            return items * 2 * TOKEN_BYTES * self.study.config.text.max_length
        if job.rule == "import_encoder":
            tuning = self._step(finetune_key(self.study, job.wildcards["method"], *self.study.cells[0]))
            return FLOAT * tuning["encoder_parameters"]
        if job.rule == "probe":
            sizes = self.sizes(job.wildcards["dataset"])
            return (sizes["val"] + sizes["test"]) * self._row_bytes(job.wildcards["dataset"])
        return 0.0

    def _row_bytes(self, dataset: str) -> float:
        """Bytes of a row of predictions.parquet."""
        return ROW_BYTES + LABEL_BYTES * len(self.study.dataset(dataset).classes)

    def _features(self, job: Job) -> Cost:
        """A forward pass over every image of a source."""
        images = self.images(job.wildcards["source"])
        step = self._step(finetune_key(self.study, job.wildcards["method"], *self.study.cells[0]))
        disk = FLOAT * images * step["feature_width"]
        return self._forward(job, images, self.study.config.probe.features.precision, disk)

    def _predicting(self, job: Job) -> Cost:
        """A forward pass of every seed's classifier over the test images of another dataset."""
        other, seeds = job.wildcards["other"], len(self.study.seeds)
        rows = seeds * self.sizes(other)["test"]
        classes = (*self.study.dataset(other).classes, *self.study.dataset(job.wildcards["dataset"]).classes)
        return self._forward(
            job, rows, self._tuning(job).training.precision, rows * (ROW_BYTES + LABEL_BYTES * len(classes))
        )

    def _forward(self, job: Job, images: int, precision: str, disk: float) -> Cost:
        """A forward pass over images."""
        method = job.wildcards["method"]
        step = self._step(finetune_key(self.study, method, *self.study.cells[0]))
        flops = images * step["forward_flops"] / step["batch"]
        speed, source = self.speed(method, precision)
        return Cost(
            START + flops / speed,
            source,
            flops,
            self._ram(job),
            disk=disk,
            fast=self._fast(method, flops, source),
        )

    def _ram(self, job: Job) -> float | None:
        asked = self.resources.get(job.rule, {}).get("mem_mb")
        return None if asked is None else asked * 1e6 / 2**20

    def _step(self, key: str) -> dict:
        found = self.steps.get(key)
        if not isinstance(found, dict) or not (UNCOUNTED in found or found.keys() >= STEP):
            raise UserError(
                f"steps.json has no {key}: it is of other settings; make it again with `snakemake plan -R calibrate`"
            )
        return found

    def _pretraining(self, job: Job) -> Cost:
        method = job.wildcards["method"]
        settings, step = self.study.pretrain_settings(method), self._step(pretrain_key(self.study, method))
        if UNCOUNTED in step:
            tuning = self._step(finetune_key(self.study, method, *self.study.cells[0]))
            disk = 0.0 if job.rule == "pilot" else FLOAT * tuning["encoder_parameters"]
            return Cost(START, UNCOUNTED, ram_mib=self._ram(job), disk=disk)
        training, held_out, runs = settings.training, self.plan.held_out, 1
        moments = [MOMENTS[training.optimiser.name]]
        if job.rule == "pilot":
            candidates = self.study.config.pilots.candidates(training.optimiser)
            training, runs = self.study.pilot_training(method), len(candidates)
            moments += [MOMENTS[each.name] for each in candidates]
        if step["unit"] == "crop":
            words = settings.words
            train, val = words.count * words.instances, words.count * words.held_out
        else:
            total = self.studies if step["unit"] == "study" else self._images_to_pretrain(method)
            train, val = round(total * (1 - held_out)), round(total * held_out)
        flops, validation = (runs * part for part in self.training_flops(training, step, train, val))
        key = (pretrain_key(self.study, method), training.compile)
        speed, source = self.speed(method, training.precision, key)
        encoder = FLOAT * step["encoder_parameters"]
        # a step is counted with the configured optimiser; a candidate may keep more moments
        more = FLOAT * step["parameters"] * (max(moments) - moments[0])
        return Cost(
            START + flops / speed,
            source,
            flops,
            self._ram(job),
            (self.gpu_bytes(step, key) + more) / 2**20,
            0.0 if job.rule == "pilot" else encoder,
            WRITING * (_state(training.optimiser, FLOAT * step["parameters"], encoder) + more),
            self._fast(method, flops, source),
            validation / flops,
        )

    def _tuning(self, job: Job) -> config.Finetune:
        """Settings of a fine-tune, the same on every split."""
        return self.study.finetune_settings(*(job.wildcards[name] for name in ("method", "dataset", "ratio")))

    def _kept(self, job: Job) -> int:
        """How many classifiers a fine-tune keeps."""
        return len(self.study.saved_seeds) if self.study.saves_classifier(**job.wildcards) else 0

    def _finetuning(self, job: Job) -> Cost:
        method, dataset, ratio = (job.wildcards[name] for name in ("method", "dataset", "ratio"))
        training = self._tuning(job).training
        key = (finetune_key(self.study, method, dataset, ratio), training.compile)
        step = self._step(key[0])
        sizes, seeds = self.sizes(dataset), len(self.study.seeds)
        train = max(1, round(sizes["train"] * ratio / 100))
        flops, validation = self.training_flops(training, step, train, sizes["val"])
        flops += step["forward_flops"] / step["batch"] * (sizes["val"] + sizes["test"])
        speed, source = self.speed(method, training.precision, key)
        encoder = FLOAT * step["encoder_parameters"]
        rows = sizes["val"] + sizes["test"]
        return Cost(
            START + seeds * flops / speed,
            source,
            seeds * flops,
            self._ram(job),
            self.gpu_bytes(step, key) / 2**20,
            seeds * rows * self._row_bytes(dataset) + self._kept(job) * encoder,
            # a finished seed keeps its best weights only
            WRITING * _state(training.optimiser, encoder, encoder) + (seeds - 1) * encoder,
            self._fast(method, seeds * flops, source),
            validation / flops,
        )

    def training_flops(
        self, training: config.Training, step: dict, train: int, val: int
    ) -> tuple[float, float]:
        """FLOPs of a training run, and of its validations: its steps, and a forward pass over the held-out items at each."""
        batch = min(training.batch_size, train)
        item, forward = step["flops"] / step["batch"], step["forward_flops"] / step["batch"]
        held_out = self.validations(training, train) * val * forward
        return training.steps * batch * item + held_out, held_out

    def validations(self, training: config.Training, train: int) -> int:
        """Validations of a run on `train` items, that of the untrained module among them."""
        whole, rest = divmod(train, min(training.batch_size, train))
        return 1 + len(training.validation_steps(whole + (rest > 0 and training.last_batch == "keep")))

    def gpu_bytes(self, step: dict, key: tuple[str, bool]) -> float:
        """Peak of a step's memory: what gpu_check measured, or the estimate."""
        return self.timed.get(key, {}).get("peak_bytes") or step["gpu_bytes"]

    def speed(self, method: str, precision: str, key: tuple[str, bool] = ("", False)) -> tuple[float, str]:
        """FLOP/s of a method's jobs, and the source of that number; `key`: of the step, and whether it is compiled."""
        if timed := self.timed.get(key, {}).get("flops_per_second"):
            return timed, "measured"
        found = self.speeds.get(speed_key(self.study, method, precision))
        wanted = self.study.config.device
        if found and (wanted != "cuda" or found["kind"] == "cuda"):
            return found["flops_per_second"], "calibrated"
        if wanted == "cpu":
            return self.plan.cpu_tflops * 1e12, "assumed"
        return self.plan.tflops * 1e12 * self.plan.utilisation, "assumed"

    def _fast(self, method: str, flops: float, source: str) -> float | None:
        """Seconds at the rate that others publish for the assumed GPU; None where no speed is assumed, or no rate is known."""
        published, architecture = self.plan.published, self.study.model_settings(method).architecture
        if published is None or published.device != self.plan.device:
            return None
        rate = published.rates.get("residual" if architecture.startswith("resnet") else architecture)
        if source != "assumed" or self.study.config.device == "cpu" or rate is None:
            return None
        return START + flops / (rate * 1e12)

    def seconds_on_this_machine(self, job: Job, cost: Cost) -> float | None:
        """Seconds of a training job at this machine's speed, whatever the study's device; None where unknown."""
        if job.rule not in TRAINING:
            return cost.seconds
        if not cost.flops:
            return None
        method = job.wildcards["method"]
        settings = self._tuning(job) if job.rule == "finetune" else self.study.pretrain_settings(method)
        found = self.speeds.get(speed_key(self.study, method, settings.training.precision))
        return START + cost.flops / found["flops_per_second"] if found else None

    # ---- sizes of the data

    def images(self, source: str) -> int:
        """Images of a source: those of its index where that exists, else those that the config expects."""
        index = self.study.resolve(paths.INDEX_REPORT, source=source)
        if index.exists():
            return _count(index, "rows")
        expected = (self.study.source(source).expected or Expected()).images
        count = self.plan.images.get(source, expected)
        if count is None:
            raise UserError(f"plan.images: no published number of images of {source}; add one")
        return count

    def _images_to_pretrain(self, method: str) -> int:
        return sum(map(self.images, self.study.pretrain_settings(method).sources))

    @property
    def studies(self) -> int:
        """Studies of MIMIC-CXR with images and a report."""
        path = self.study.resolve(paths.REPORTS_FUNNEL)
        return _count(path, "studies_with_images") if path.exists() else self.plan.studies

    def sizes(self, dataset: str) -> dict[str, int]:
        """Images of train, val and test: of the first split where it exists, else the configured shares of the source."""
        entry = self.study.dataset(dataset)
        path = self.study.resolve(paths.SPLIT_REPORT, dataset=dataset, split=0)
        if path.exists():
            found = read_object(path, "report", ("images",))["images"]
            if not isinstance(found, dict) or {type(found.get(part)) for part in PARTS} != {int}:
                raise UserError(f"{path}: images are not counts of train, val and test; delete it and rerun")
            return found
        total, shares = self.images(entry.source), entry.split.fractions
        return {name: round(total * share) for name, share in zip(PARTS, shares, strict=True)}


def _count(path: Path, key: str) -> int:
    """A count in a report of the pipeline."""
    if type(number := read_object(path, "report", (key,))[key]) is not int:
        raise UserError(f"{path}: {key} is not a count; delete it and rerun the job that wrote it")
    return number


def timed_steps(measured: dict) -> dict[tuple[str, bool], dict]:
    """Rows of gpu_check.json by key of the step and whether it is compiled; only those that have a speed."""
    rows = measured.get("gpu_check", {}).get("rows", [])
    return {(row["key"], row["compile"]): row for row in rows if row.get("flops_per_second")}


def _state(optimiser: config.Optimiser, module: float, best: float) -> float:
    """Bytes of a resume state: a module, its optimiser's moments, Lookahead's slow weights, the best weights so far."""
    return module * (1 + MOMENTS[optimiser.name] + bool(optimiser.lookahead_every)) + best
