"""The plan of a study: its jobs, GPU hours, memory and disk, by tier, and how long some GPUs would take. No torch."""

from collections import Counter
from dataclasses import asdict
from html import escape
from typing import Any

from refers import config
from refers.formatting import size
from refers.planning.costs import GPU_RULES, UNCOUNTED, Cost, Prices
from refers.planning.jobs import DEMO, STUDY, Job, jobs_of
from refers.planning.schedule import Schedule, Task, simulate
from refers.study.study import Study

TRAINING = ("pretrain", "finetune")
HOUR, DAY = 3600, 86400


def tiers_of(values: dict) -> list[dict[str, Any]]:
    """The config's tiers: title, and the study of which `methods` and `cells` count, imports in place of pre-training."""
    found = []
    for tier in values["plan"]["tiers"]:
        imported = {name: {"checkpoint": path} for name, path in tier.get("checkpoints", {}).items()}
        study = config.merge(values, {"methods": imported})
        found.append(
            {
                "title": tier["title"],
                "study": study,
                "methods": tier.get("methods"),
                "cells": tier.get("cells"),
            }
        )
    return found


def report(studies: dict[str, dict], measured: dict, resources: dict[str, dict]) -> dict[str, Any]:
    """The whole plan as plain values.

    Args:
        studies: as `read_studies` gives them.
        measured: content of steps.json.
        resources: rule -> threads and mem_mb.
    """
    values = studies[STUDY]
    tiers = []
    if DEMO in studies:
        tiers.append(_tier("demo", studies[DEMO], measured, resources))
    for tier in tiers_of(values):
        tiers.append(_tier(tier.pop("title"), tier.pop("study"), measured, resources, **tier))
    jobs = jobs_of(values)
    prices = Prices(Study(values), measured, resources)
    costs = {target: prices.of(job) for target, job in jobs.items()}
    tasks = {
        target: Task(
            costs[target].seconds,
            job.needs,
            int(job.rule in GPU_RULES),
            prices.threads(job.rule),
        )
        for target, job in jobs.items()
    }
    plan = values["plan"]
    return {
        "device": device_line(values, measured),
        "tiers": tiers,
        "schedules": [
            {"gpus": gpus, **_schedule(simulate(tasks, gpus, plan["cores"] * gpus), tasks, gpus)}
            for gpus in plan["gpus"]
        ],
        "methods": _methods(jobs, costs, prices),
        "too_large": [
            {"target": target, "gib": cost.gpu_mib / 1024}
            for target, cost in costs.items()
            if prices.uses_gpu(jobs[target]) and (cost.gpu_mib or 0) > 1024 * plan["memory_gib"]
        ],
        "targets": [
            {"target": target, "rule": job.rule, "needs": list(job.needs), **asdict(costs[target])}
            for target, job in jobs.items()
        ],
    }


def _tier(
    title: str,
    values: dict,
    measured: dict,
    resources: dict[str, dict],
    methods: list[str] | None = None,
    cells: list[str] | None = None,
) -> dict[str, Any]:
    jobs = jobs_of(values, methods, cells)
    prices = Prices(Study(values), measured, resources)
    costs = {target: prices.of(job) for target, job in jobs.items()}
    return {"title": title, "on": "CPU" if values["device"] == "cpu" else "GPU", **total(jobs, costs, prices)}


def total(jobs: dict[str, Job], costs: dict[str, Cost], prices: Prices) -> dict[str, Any]:
    """Sums over jobs: hours of training and of other jobs, bytes; and the largest memory of one."""
    training = {target for target, job in jobs.items() if job.rule in TRAINING}
    here = [prices.here(jobs[target], costs[target]) for target in training]
    gpu = [
        costs[target].gpu_mib
        for target in training
        if prices.uses_gpu(jobs[target]) and costs[target].gpu_mib is not None
    ]
    return {
        "jobs": len(jobs),
        "training_jobs": len(training),
        "training_hours": sum(costs[target].seconds for target in training) / HOUR,
        "here_hours": None if None in here else sum(here) / HOUR,
        "other_hours": sum(cost.seconds for target, cost in costs.items() if target not in training) / HOUR,
        "disk_bytes": sum(cost.disk for cost in costs.values()),
        "transient_bytes": max((cost.transient for cost in costs.values()), default=0.0),
        "gpu_mib": max(gpu, default=None),
        "ram_mib": max((cost.ram_mib or 0 for cost in costs.values()), default=0),
        "sources": dict(Counter(cost.source for cost in costs.values())),
        "training_sources": dict(Counter(costs[target].source for target in training)),
    }


def _methods(jobs: dict[str, Job], costs: dict[str, Cost], prices: Prices) -> list[dict[str, Any]]:
    """Hours and memory by method: its encoder, and its fine-tunes together."""
    rows = []
    for method in prices.study.methods:
        own = {target: job for target, job in jobs.items() if job.about.get("method") == method}
        before = [costs[target] for target, job in own.items() if job.rule in ("pretrain", "import_encoder")]
        tuning = [costs[target] for target, job in own.items() if job.rule == "finetune"]
        rows.append(
            {
                "method": method,
                "encoder_hours": _hours(before),
                "finetune_hours": sum(cost.seconds for cost in tuning) / HOUR,
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


def _schedule(found: Schedule, tasks: dict[str, Task], gpus: int) -> dict[str, Any]:
    busy = sum(task.seconds * task.gpus for task in tasks.values())
    return {
        "makespan_hours": found.makespan / HOUR,
        "gpu_share": busy / (found.makespan * gpus) if found.makespan else 0.0,
        "critical_hours": found.path_seconds / HOUR,
        "critical_path": [{"target": name, "hours": tasks[name].seconds / HOUR} for name in found.path],
    }


def device_line(values: dict, measured: dict) -> str:
    """Where the hours of jobs that have not run yet are from, in a sentence."""
    plan, speeds = values["plan"], measured["speeds"].values()
    timed = {
        f"{speed['device']} ({speed['threads']} threads)" if speed["kind"] == "cpu" else speed["device"]
        for speed in speeds
    }
    assumed = (
        f"{plan['device']}, {plan['tflops'] * plan['utilisation']:.1f} TFLOP/s assumed"
        f" ({plan['utilisation']:.0%} of {plan['tflops']:g})"
    )
    if values["device"] == "cpu":
        return f"hours of {', '.join(sorted(timed)) or 'processors'}, {'calibrated here' if timed else 'assumed'}"
    if any(speed["kind"] == "cuda" for speed in speeds):
        return f"hours of {', '.join(sorted(timed))}, calibrated here"
    here = (
        f"; this machine ({', '.join(sorted(timed))}) was timed too; it has no GPU that the installed torch can use"
        if timed
        else ""
    )
    return f"GPU hours of {assumed}{here}"


# ---- for people


def tables(plan: dict) -> list[tuple[str, list[str], list[list[str]]]]:
    """The plan as tables: title, heads, rows."""
    tiers = [
        [
            tier["title"],
            f"{tier['jobs']:,}",
            f"{tier['training_jobs']:,}",
            f"{span(tier['training_hours'])} {tier['on']}",
            span(tier["other_hours"]),
            span(tier["here_hours"]),
            size(tier["disk_bytes"]),
            size(tier["transient_bytes"]),
            _gib(tier["gpu_mib"]),
            _gib(tier["ram_mib"]),
            _sources(tier["sources"]),
        ]
        for tier in plan["tiers"]
    ]
    methods = [
        [
            row["method"],
            UNCOUNTED if row["encoder_hours"] is None else span(row["encoder_hours"]),
            span(row["finetune_hours"]),
            _gib(row["encoder_gpu_mib"]),
            _gib(row["finetune_gpu_mib"]),
            size(row["encoder_bytes"]),
            _sources(row["sources"]),
        ]
        for row in plan["methods"]
    ]
    schedules = [
        [
            str(row["gpus"]),
            span(row["makespan_hours"]),
            f"{row['gpu_share']:.0%}",
            span(row["critical_hours"]),
        ]
        for row in plan["schedules"]
    ]
    path = (
        [[step["target"], span(step["hours"])] for step in plan["schedules"][0]["critical_path"]]
        if plan["schedules"]
        else []
    )
    return [
        (
            "Tiers",
            [
                "tier",
                "jobs",
                "training jobs",
                "training",
                "other jobs",
                "training here",
                "disk",
                "while running",
                "GPU memory",
                "memory",
                "jobs by source",
            ],
            tiers,
        ),
        (
            "Everything, by method",
            [
                "method",
                "encoder",
                "all its fine-tunes",
                "GPU memory",
                "fine-tuning",
                "encoder's file",
                "jobs by source",
            ],
            methods,
        ),
        ("Everything, on several GPUs", ["GPUs", "makespan", "GPUs busy", "critical path"], schedules),
        ("Critical path", ["target", "time"], path),
    ]


def to_markdown(plan: dict) -> str:
    """The plan as Markdown, with columns that also line up on a terminal."""
    parts = [sentence(plan)]
    for title, heads, rows in tables(plan):
        grid = [heads, *rows]
        widths = [max(len(row[place]) for row in grid) for place in range(len(heads))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in grid
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        parts += [f"## {title}", "\n".join([lines[0], rule, *lines[1:]])]
    return "\n\n".join(parts) + "\n"


def to_html(plan: dict) -> str:
    """The plan as the page shows it."""
    parts = ['<h2 id="plan">Plan</h2>', f"<p>{escape(sentence(plan))}</p>"]
    for title, heads, rows in tables(plan):
        head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
            for row in rows
        )
        parts.append(
            f'<figure class="table"><figcaption>{escape(title)}</figcaption><div class="scroll"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></figure>"
        )
    return "\n".join(parts)


def sentence(plan: dict) -> str:
    """What the hours are made of, which jobs do not fit the GPU in one piece, and which could not be counted."""
    text = f"{plan['device'][0].upper()}{plan['device'][1:]}."
    if large := plan["too_large"]:
        listed = ", ".join(f"{line['target']} ({line['gib']:.0f} GiB)" for line in large)
        text += f" Too large for the GPU's memory, so that their batches will pass in parts: {listed}."
    if uncounted := [line["target"] for line in plan["targets"] if line["source"] == UNCOUNTED]:
        text += (
            f" Uncounted, so that their hours are missing from every sum: {', '.join(uncounted)};"
            " the log of calibrate says why."
        )
    return text


def span(hours: float | None) -> str:
    """Hours for people; empty where unknown."""
    if hours is None:
        return ""
    if hours >= 72:
        return f"{hours / 24:,.1f} d"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * HOUR:.0f} s"


def _gib(mib: float | None) -> str:
    return "" if not mib else f"{mib / 1024:.1f} GiB"


def _sources(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
