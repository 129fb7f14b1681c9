"""The plan of a study: jobs, GPU hours, memory and disk by tier, and the least time that it takes on some GPUs. No torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from refers import config
from refers.config.study import Tier
from refers.formatting import gib, html_section, markdown_table, size, span
from refers.planning.costs import GPU_RULES, TRAINING, UNCOUNTED, Cost, CostModel
from refers.planning.jobs import DEMO, STUDY, Job, jobs_of
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs
from refers.study.study import Study

ENCODING = ("pilot", "pretrain", "import_encoder")  # what a method's encoder takes
PROBE_RULES = ("extract_features", "probe", "probe_cell")
HOUR = 3600


def tiers_of(study: Study) -> list[tuple[Tier, Study]]:
    """The config's tiers, each with the study that imports its checkpoints and runs the methods that it adds."""
    values = config.to_dict(study.config)
    found = []
    for tier in study.config.plan.tiers:
        changes: dict[str, Any] = {}
        if tier.checkpoints:
            imported = {
                name: {"checkpoint": path, "pretrain": None} for name, path in tier.checkpoints.items()
            }
            changes["methods"] = imported
        if added := [name for name in tier.add if name not in study.config.study.methods]:
            changes["study"] = {"methods": [*study.config.study.methods, *added]}
        found.append((tier, check(config.merge(values, changes)) if changes else study))
    return found


def report(studies: dict[str, Study], measured: dict, resources: dict[str, dict]) -> dict[str, Any]:
    """The whole plan as plain values.

    Args:
        studies: as `read_studies` gives them.
        measured: content of steps.json, with that of gpu_check.json under `gpu_check` where there is one.
        resources: rule -> threads and mem_mb.
    """
    study = studies[STUDY]
    tiers = []
    if DEMO in studies:
        tiers.append(_tier("demo", studies[DEMO], measured, resources))
    for tier, changed in tiers_of(study):
        tiers.append(_tier(tier.title, changed, measured, resources, tier.methods, tier.cells, tier.targets))
    jobs, model = jobs_of(study), CostModel(study, measured, resources)
    costs = {target: model.estimate(job) for target, job in jobs.items()}
    default, main = jobs_of(study, targets=["tables"]), _main_methods(study)
    path = critical_path(jobs, costs)
    gpu_hours = sum(costs[target].seconds for target, job in jobs.items() if job.rule in GPU_RULES) / HOUR
    return {
        "device": device_line(study, measured) + checked_line(model, measured),
        "published": published_line(study, costs),
        "tiers": tiers,
        "parts": _parts(study, default, costs, main),
        "savings": _savings(study, default, costs, main),
        "schedules": [_schedule(gpus, gpu_hours, path) for gpus in study.config.plan.gpus],
        "critical_path": path,
        "methods": _methods(study, jobs, costs),
        "too_large": [
            {"target": target, "gib": gib}
            for target, cost in costs.items()
            if model.uses_gpu(jobs[target])
            and (gib := (cost.gpu_mib or 0) / 1024) > study.config.plan.memory_gib
        ],
        "targets": [
            {"target": target, "rule": job.rule, "needs": list(job.needs), **asdict(costs[target])}
            for target, job in jobs.items()
        ],
    }


def _tier(
    title: str,
    study: Study,
    measured: dict,
    resources: dict[str, dict],
    methods: list[str] | None = None,
    cells: list[str] | None = None,
    targets: Sequence[str] = (),
) -> dict[str, Any]:
    jobs, model = jobs_of(study, methods, cells, targets), CostModel(study, measured, resources)
    costs = {target: model.estimate(job) for target, job in jobs.items()}
    return {
        "title": title,
        "on": "CPU" if study.config.device == "cpu" else "GPU",
        **total(jobs, costs, model),
    }


def total(jobs: dict[str, Job], costs: dict[str, Cost], model: CostModel) -> dict[str, Any]:
    """Sums over jobs: hours of training and of other jobs, bytes; and the largest memory of one."""
    training = {target for target, job in jobs.items() if job.rule in TRAINING}
    here = [model.seconds_on_this_machine(jobs[target], costs[target]) for target in training]
    known = [seconds for seconds in here if seconds is not None]
    gpu = [
        mib
        for target in training
        if model.uses_gpu(jobs[target]) and (mib := costs[target].gpu_mib) is not None
    ]
    return {
        "jobs": len(jobs),
        "training_jobs": len(training),
        "training_hours": sum(costs[target].seconds for target in training) / HOUR,
        "fast_hours": sum(costs[target].fastest for target in training) / HOUR,
        "here_hours": sum(known) / HOUR if len(known) == len(here) else None,
        "other_hours": sum(cost.seconds for target, cost in costs.items() if target not in training) / HOUR,
        "disk_bytes": sum(cost.disk for cost in costs.values()),
        "transient_bytes": max((cost.transient for cost in costs.values()), default=0.0),
        "gpu_mib": max(gpu, default=None),
        "ram_mib": max((cost.ram_mib or 0 for cost in costs.values()), default=0),
        "sources": dict(Counter(cost.source for cost in costs.values())),
        "training_sources": dict(Counter(costs[target].source for target in training)),
    }


def _parts(
    study: Study, jobs: dict[str, Job], costs: dict[str, Cost], main: set[str]
) -> list[dict[str, Any]]:
    """Hours of the GPU that the parts of the default target take, each job in one part; `main`: methods of the main table."""
    parts: dict[str, tuple[float, float]] = {}
    for target, job in jobs.items():
        if job.rule not in GPU_RULES:
            continue
        cost = costs[target]
        of = f"rows of {_name(study)}" if job.wildcards.get("method") in main else "other rows"
        if job.rule == "pretrain":
            shares = {f"pre-training, {of}": 1.0}
        elif job.rule == "pilot":
            shares = {"learning-rate pilots": 1.0}
        elif job.rule == "finetune":
            where = f"fine-tuning, {job.wildcards['ratio']} % of the labels"
            shares = {where: 1 - cost.validation, f"{where}: validations": cost.validation}
        else:
            shares = {"features and maps": 1.0}
        for title, share in shares.items():
            slow, fast = parts.get(title, (0.0, 0.0))
            parts[title] = slow + share * cost.seconds, fast + share * cost.fastest
    whole = sum(slow for slow, _ in parts.values())
    return [
        {"part": title, "hours": slow / HOUR, "fast_hours": fast / HOUR, "share": slow / whole}
        for title, (slow, fast) in sorted(parts.items(), key=lambda part: (part[0].split(",")[0], part[0]))
    ]


def _main_methods(study: Study) -> set[str]:
    """Methods of the main table: the others are ablations, other starts and controls."""
    specs = Specs(Availability(study, AssumeAvailable()))
    return {method for method, _ in specs.table_cells(study.config.plan.table)}


def _name(study: Study) -> str:
    """What the main table is called."""
    table = study.table(study.config.plan.table)
    return table.label or table.title


def _savings(
    study: Study, jobs: dict[str, Job], costs: dict[str, Cost], main: set[str]
) -> list[dict[str, Any]]:
    """What a smaller study would save of the default target's training, one choice at a time."""
    training = {target: job for target, job in jobs.items() if job.rule in TRAINING}
    tuning = [target for target, job in training.items() if job.rule == "finetune"]
    seeds, kept = len(study.seeds), jobs_of(study, main)
    choices = {
        f"one seed less than {seeds}": (tuning if seeds > 1 else [], 1 / seeds),
        "one split of every dataset": (
            [target for target in tuning if training[target].wildcards["split"]],
            1.0,
        ),
        f"the rows of {_name(study)} alone": (
            [target for target in training if target not in kept] if main else [],
            1.0,
        ),
    }
    return [
        {
            "choice": title,
            "hours": share * sum(costs[target].seconds for target in spared) / HOUR,
            "fast_hours": share * sum(costs[target].fastest for target in spared) / HOUR,
        }
        for title, (spared, share) in choices.items()
        if spared
    ]


def critical_path(jobs: dict[str, Job], costs: dict[str, Cost]) -> list[dict[str, Any]]:
    """The longest chain of jobs, first to last: no number of GPUs makes a study shorter.

    Args:
        jobs: by target, each after those that it needs.
    """
    ends: dict[str, float] = {}
    last: dict[str, str | None] = {}
    for target, job in jobs.items():
        last[target] = max(job.needs, key=ends.__getitem__, default=None)
        ends[target] = costs[target].seconds + ends.get(last[target], 0.0)
    path, target = [], max(ends, key=ends.__getitem__, default=None)
    while target is not None:
        path.append({"target": target, "hours": costs[target].seconds / HOUR})
        target = last[target]
    return path[::-1]


def _schedule(gpus: int, gpu_hours: float, path: list[dict[str, Any]]) -> dict[str, Any]:
    """The least time on this many GPUs, one job per GPU: all of them always busy, or the critical path."""
    hours = max(gpu_hours / gpus, sum(step["hours"] for step in path))
    return {"gpus": gpus, "least_hours": hours, "gpu_share": gpu_hours / (hours * gpus) if hours else 0.0}


def _methods(study: Study, jobs: dict[str, Job], costs: dict[str, Cost]) -> list[dict[str, Any]]:
    """Hours and memory by method: its encoder, its fine-tunes together, and its probes with their features."""
    rows = []
    for method in study.methods:
        own = {target: job for target, job in jobs.items() if job.wildcards.get("method") == method}
        before = [costs[target] for target, job in own.items() if job.rule in ENCODING]
        tuning = [costs[target] for target, job in own.items() if job.rule == "finetune"]
        probing = [costs[target] for target, job in own.items() if job.rule in PROBE_RULES]
        rows.append(
            {
                "method": method,
                "encoder_hours": _hours(before),
                "finetune_hours": sum(cost.seconds for cost in tuning) / HOUR,
                "probe_hours": sum(cost.seconds for cost in probing) / HOUR,
                "encoder_gpu_mib": max((cost.gpu_mib or 0 for cost in before), default=0) or None,
                "finetune_gpu_mib": max((cost.gpu_mib or 0 for cost in tuning), default=0) or None,
                "encoder_bytes": sum(cost.disk for cost in before),
                "sources": dict(Counter(cost.source for cost in [*before, *tuning])),
            }
        )
    return rows


def _hours(costs: list[Cost]) -> float | None:
    """Hours of these jobs together; None where one of them cannot be counted."""
    known = all(cost.source != UNCOUNTED for cost in costs)
    return sum(cost.seconds for cost in costs) / HOUR if known else None


def device_line(study: Study, measured: dict) -> str:
    """A line on how the hours of jobs that have not run yet were estimated."""
    plan, speeds = study.config.plan, measured["speeds"].values()
    timed = {
        f"{speed['device']} ({speed['threads']} threads)" if speed["kind"] == "cpu" else speed["device"]
        for speed in speeds
    }
    assumed = (
        f"{plan.device}, {plan.tflops * plan.utilisation:.1f} TFLOP/s assumed"
        f" ({plan.utilisation:.0%} of {plan.tflops:g})"
    )
    if study.config.device == "cpu":
        return f"hours of {', '.join(sorted(timed)) or 'CPUs'}, {'calibrated on this machine' if timed else 'assumed'}"
    if any(speed["kind"] == "cuda" for speed in speeds):
        return f"hours of {', '.join(sorted(timed))}, calibrated on this machine"
    here = (
        f"; this machine ({', '.join(sorted(timed))}) was timed too; it has no GPU that the installed torch can use"
        if timed
        else ""
    )
    return f"GPU hours of {assumed}{here}"


def published_line(study: Study, costs: dict[str, Cost]) -> str:
    """Where the second number of a range comes from; empty where there is none."""
    published = study.config.plan.published
    if published is None or all(cost.fast is None for cost in costs.values()):
        return ""
    rates = ", ".join(f"{rate:g} TFLOP/s for {kind} networks" for kind, rate in published.rates.items())
    return f"Of two times, the second is at published training rates: {rates} ({published.source})"


def checked_line(model: CostModel, measured: dict) -> str:
    """What gpu_check measured of the plan, as the end of a line."""
    if not model.timed:
        return ""
    return f"; gpu_check measured {len(model.timed)} kinds of steps on {measured['gpu_check']['device']}"


# ---- for people

TIER_HEADS = [
    "tier", "jobs", "training jobs", "training", "other jobs", "training on this machine", "disk", "while running",
    "GPU memory", "memory", "jobs by source",
]  # fmt: skip
METHOD_HEADS = [
    "method", "encoder", "all its fine-tunes", "all its probes", "GPU memory", "fine-tuning", "encoder's file", "jobs by source",
]  # fmt: skip


def tables(plan: dict) -> list[tuple[str, list[str], list[list[str]]]]:
    """The plan as tables: title, heads, rows."""
    tiers = [
        [
            tier["title"],
            f"{tier['jobs']:,}",
            f"{tier['training_jobs']:,}",
            f"{_range(tier['training_hours'], tier['fast_hours'])} {tier['on']}",
            span(tier["other_hours"]),
            span(tier["here_hours"]),
            size(tier["disk_bytes"]),
            size(tier["transient_bytes"]),
            gib(tier["gpu_mib"]),
            gib(tier["ram_mib"]),
            _sources(tier["sources"]),
        ]
        for tier in plan["tiers"]
    ]
    methods = [
        [
            row["method"],
            UNCOUNTED if row["encoder_hours"] is None else span(row["encoder_hours"]),
            span(row["finetune_hours"]),
            span(row["probe_hours"]),
            gib(row["encoder_gpu_mib"]),
            gib(row["finetune_gpu_mib"]),
            size(row["encoder_bytes"]),
            _sources(row["sources"]),
        ]
        for row in plan["methods"]
    ]
    schedules = [
        [str(row["gpus"]), span(row["least_hours"]), f"{row['gpu_share']:.0%}"] for row in plan["schedules"]
    ]
    path = [[step["target"], span(step["hours"])] for step in plan["critical_path"]]
    whole = span(sum(step["hours"] for step in plan["critical_path"]))
    parts = [
        [row["part"], _range(row["hours"], row["fast_hours"]), f"{row['share']:.0%}"] for row in plan["parts"]
    ]
    savings = [[row["choice"], _range(row["hours"], row["fast_hours"])] for row in plan["savings"]]
    return [
        ("Tiers", TIER_HEADS, tiers),
        ("Tables, where the hours go", ["part", "time", "share"], parts),
        ("Tables, what less would save", ["choice", "training time saved"], savings),
        ("Everything, by method", METHOD_HEADS, methods),
        ("Everything, on several GPUs", ["GPUs", "at least", "GPUs busy"], schedules),
        (f"Critical path, {whole}", ["target", "time"], path),
    ]


def to_markdown(plan: dict) -> str:
    """The plan as Markdown, whose columns also line up on a terminal."""
    parts = [sentence(plan)]
    for title, heads, rows in tables(plan):
        parts += [f"## {title}", markdown_table(heads, rows)]
    return "\n\n".join(parts) + "\n"


def to_html(plan: dict) -> str:
    """The plan as the page shows it."""
    return html_section("plan", "Plan", sentence(plan), tables(plan))


def sentence(plan: dict) -> str:
    """How the hours were estimated, which jobs exceed the GPU's memory, and which could not be counted."""
    text = f"{plan['device'][0].upper()}{plan['device'][1:]}."
    if published := plan["published"]:
        text += f" {published}."
    if large := plan["too_large"]:
        listed = ", ".join(f"{line['target']} ({line['gib']:.0f} GiB)" for line in large)
        text += f" Too large for the GPU's memory, so that they will train in micro-batches: {listed}."
    if uncounted := [line["target"] for line in plan["targets"] if line["source"] == UNCOUNTED]:
        text += (
            f" Uncounted, so that their hours are missing from every sum: {', '.join(uncounted)};"
            " the log of calibrate says why."
        )
    return text


def _range(slow: float, fast: float) -> str:
    """A time, or two where published rates give another one."""
    one, other = span(slow), span(fast)
    return one if one == other else f"{one} - {other}"


def _sources(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
