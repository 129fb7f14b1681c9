"""Every key of the config: what jobs are told (`settings`), the file as a whole (`study`), and how it is read and checked.

Jobs import the names below. `study` is apart, so that a change in it reruns no training.
"""

from refers.config.parse import load, load_json, load_model, merge, parse_json, to_dict
from refers.config.settings import (
    Augment,
    Candidate,
    Features,
    Finetune,
    InputStatistics,
    Interval,
    Model,
    Optimiser,
    Pilots,
    Pretrain,
    Probe,
    ProbeRule,
    ReportTransformer,
    ResNet,
    Section,
    Split,
    Timm,
    Training,
    Transformer,
    Words,
    mismatch,
)

__all__ = [
    "Augment",
    "Candidate",
    "Features",
    "Finetune",
    "InputStatistics",
    "Interval",
    "Model",
    "Optimiser",
    "Pilots",
    "Pretrain",
    "Probe",
    "ProbeRule",
    "ReportTransformer",
    "ResNet",
    "Section",
    "Split",
    "Timm",
    "Training",
    "Transformer",
    "Words",
    "load",
    "load_json",
    "load_model",
    "merge",
    "mismatch",
    "parse_json",
    "to_dict",
]
