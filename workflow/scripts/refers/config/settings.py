"""Every setting of a job: type, range, default and meaning, declared once.

A script receives one of these models as JSON; `workflow/schemas/config.schema.yaml`, the manual of the config, is generated
from them (`make schema`). Defaults follow the paper; where the paper is silent they follow the authors' code, and
`docs/deviations.md` says so.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    Strict,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from refers.errors import did_you_mean

LARGEST_RATE = 10.0
# of a BERT's folder: sizes, weights in the first format that exists, vocabulary
BERT_FILES = ("config.json", "model.safetensors|pytorch_model.bin", "vocab.txt|tokenizer.json")
KINDS_OF_ERRORS = get_args(core_schema.ErrorType)  # pydantic's own


class Section(BaseModel):
    """A map of settings. Unknown keys, wrong types and numbers out of range are errors; values cannot be changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values for some keys, checked like the original."""
        return type(self).model_validate(self.model_dump() | changes)

    @model_validator(mode="wrap")
    @classmethod
    def _check_keys(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # All unknown and missing keys of a map in one message, and then what is wrong with the others.
        if isinstance(values, cls):
            return handler(values)
        if not isinstance(values, Mapping):
            raise PydanticCustomError(
                "map", "expected a map of settings, found {found}", {"found": repr(values)}
            )
        known = cls.model_fields
        unknown = [key for key in values if key not in known]
        missing = [key for key, field in known.items() if field.is_required() and key not in values]
        parts = [f"unknown key {key!r}{did_you_mean(key, known)}" for key in unknown]
        parts += [f"known keys are {', '.join(sorted(known))}"] if unknown else []
        parts += [f"missing {', '.join(missing)}; add {'them' if missing[1:] else 'it'}"] if missing else []
        try:
            found = handler({key: value for key, value in values.items() if key in known})
        except ValidationError as error:
            if not parts:
                raise
            others = [
                item for item in error.errors() if not (item["type"] == "missing" and len(item["loc"]) == 1)
            ]
        else:
            if not parts:
                return found
            others = []
        keys = PydanticCustomError("keys", "{text}", {"text": "; ".join(parts)})
        problems = [InitErrorDetails(type=keys, input=values), *map(_again, others)]
        raise ValidationError.from_exception_data(cls.__name__, problems)


def _again(item: Any) -> InitErrorDetails:
    """A problem that pydantic found, to be reported beside others."""
    kind = item["type"]
    if kind not in KINDS_OF_ERRORS:
        kind = PydanticCustomError(kind, "{text}", {"text": item["msg"]})
    return InitErrorDetails(type=kind, loc=item["loc"], input=item["input"], ctx=item.get("ctx", {}))


class Interval:
    """Annotation of a pair of numbers, a list in YAML: each from `low` to `high`, the first not above the second."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.float_schema(ge=self.low, le=self.high, strict=True, allow_inf_nan=False)
        pair = core_schema.tuple_schema([number, number], strict=False)
        return core_schema.no_info_after_validator_function(self._check_order, pair)

    @staticmethod
    def _check_order(pair: tuple[float, float]) -> tuple[float, float]:
        if pair[0] > pair[1]:
            raise ValueError(f"{list(pair)} ends below its start; exchange the two numbers")
        return pair


def _check_unique(values: list) -> list:
    if twice := sorted({str(value) for value in values if values.count(value) > 1}):
        raise ValueError(f"{', '.join(twice)} is listed twice; keep one of the two")
    return values


Unique = AfterValidator(_check_unique)  # annotation of a list without doubles
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class InputStatistics(Section):
    """Mean and standard deviation by which the channels of images in [0, 1] are normalised."""

    mean: Annotated[tuple[Share, ...], Strict(False)] = Field(
        description="One number per channel: red, green and blue, or grey."
    )
    std: Annotated[tuple[Annotated[float, Field(ge=1e-3, le=10)], ...], Strict(False)] = Field(
        description="As many numbers."
    )

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and std has {len(self.std)}; give three each (red, green, blue) or one (grey)"
            )
        return self


INPUT = Field(
    None,
    description="Only beside a checkpoint: the input that its weights were trained with. null: what its origin says, timm's"
    " pretrained_cfg as a rule. An encoder from scratch takes grey images of mean and deviation 0.5.",
)


class Transformer(Section):
    """The radiograph transformer (paper §4.1)."""

    architecture: Literal["transformer"] = Field("transformer", description="Kind of encoder.")
    image_size: int = Field(224, ge=8, le=1024, description="Side of the square input in pixels.")
    patch_size: int = Field(
        16, ge=2, le=64, description="Side of a square patch in pixels; divides image_size."
    )
    width: int = Field(768, ge=8, le=4096, description="Width of every token.")
    depth: int = Field(12, ge=1, le=64, description="Number of self-attention blocks.")
    heads: int = Field(12, ge=1, le=64, description="Attention heads; divides width.")
    mlp_width: int = Field(3072, ge=8, le=16384, description="Hidden width of a block's perceptron.")
    activation: Literal["relu", "gelu"] = Field(
        "relu", description="Perceptron activation: relu (paper) or gelu (code)."
    )
    position: Literal["concat", "add"] = Field(
        "concat",
        description="Position features: concatenated with the patch and projected (paper), or added (code).",
    )
    aggregation: Literal["concat", "add", "none"] = Field(
        "concat",
        description="Recurrent concatenation after the last block: every patch output p becomes [g; p] (paper), p + g (code), or stays p.",
    )
    classifier: Literal["mean", "aggregation"] = Field(
        "mean",
        description="What a view's feature is: mean over the fused patch tokens (paper), or g alone (code).",
    )
    dropout: float = Field(
        0.1, ge=0, le=0.9, description="Dropout after the embedding and twice in each perceptron."
    )
    channels: Literal[1, 3] = Field(
        1,
        description="Channels of the image: 1, grey; 3, the grey image repeated and normalised by ImageNet's means and"
        " deviations, with a patch kernel for each channel (code). The two compute the same functions and learn at other speeds.",
    )
    class_position: bool = Field(
        False, description="Give the aggregation embedding a learned position of its own, added to it (code)."
    )
    input: InputStatistics | None = INPUT

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}; change one"
            )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; change one")
        if self.aggregation == "none" and self.classifier == "mean":
            raise ValueError("aggregation none has no fused tokens to average; set classifier: aggregation")
        return self


class ResNet(Section):
    """A residual network in the radiograph transformer's place (LSP (ConvNet); Table 3, row 1)."""

    architecture: Literal["resnet18", "resnet50", "resnet101"] = Field(
        "resnet101", description="Kind of encoder."
    )
    image_size: int = Field(224, ge=32, le=1024, description="Side of the square input in pixels.")
    input: InputStatistics | None = INPUT


class Timm(Section):
    """Any image network of the timm library, for methods of your own (docs/add-a-method.md)."""

    architecture: Literal["timm"] = Field("timm", description="Kind of encoder.")
    name: str = Field(min_length=1, description="timm's name of the network, such as convnext_tiny.")
    image_size: int = Field(224, ge=16, le=1024, description="Side of the square input in pixels.")
    options: dict[str, bool | int | float | str | list[int] | None] = Field(
        {},
        description="Options of timm.create_model for a variant without a name of its own, such as {patch_size: 16, global_pool: token}.",
    )
    input: InputStatistics | None = INPUT

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict) -> dict:
        given = {
            "num_classes": "there is no classifier",
            "in_chans": "model.input has its channels",
            "img_size": "image_size sets it",
            "pretrained": "checkpoint names the weights",
            "pretrained_cfg": "model.input has the statistics",
            "checkpoint_path": "checkpoint names the file",
        }
        if taken := sorted(options.keys() & given.keys()):
            raise ValueError(f"{taken[0]} is no option here, {given[taken[0]]}; remove it")
        return options


LEFT_OPEN = ("aggregation", "classifier", "dropout")  # of a transformer, by its weights


def mismatch(wanted: dict, found: dict) -> str:
    """The first setting by which weights of the encoder `found` compute something else in `wanted`, in words; or none."""
    for key in sorted((wanted.keys() | found.keys()) - set(LEFT_OPEN)):
        if wanted.get(key) != found.get(key):
            return f"{key} {found.get(key)} instead of {wanted.get(key)}"
    return ""


ARCHITECTURES = ("transformer", "resnet18", "resnet50", "resnet101", "timm")


def _kind_of_model(values: Any) -> str | None:
    """Tag of the class that a map of settings, or an object made of it, belongs to."""
    found = values.get("architecture", "transformer") if isinstance(values, Mapping) else None
    found = getattr(values, "architecture", found)
    return "resnet" if found in ("resnet18", "resnet50", "resnet101") else found


Model = Annotated[
    Annotated[Transformer, Tag("transformer")]
    | Annotated[ResNet, Tag("resnet")]
    | Annotated[Timm, Tag("timm")],
    Discriminator(
        _kind_of_model,
        custom_error_type="architecture",
        custom_error_message=f"architecture must be one of {', '.join(ARCHITECTURES)}",
    ),
]


class ReportTransformer(Section):
    """The report transformer, for objectives that generate reports; the defaults are the base decoder of Vaswani et al., which the paper cites."""

    width: int = Field(512, ge=8, le=4096, description="Width of a token.")
    depth: int = Field(6, ge=1, le=48, description="Decoder layers.")
    heads: int = Field(8, ge=1, le=64, description="Attention heads.")
    mlp_width: int = Field(2048, ge=8, le=16384, description="Hidden width of the perceptron.")
    activation: Literal["relu", "gelu"] = Field("relu", description="Perceptron activation.")
    embedding: Literal["scaled", "layer_norm"] = Field(
        "scaled",
        description="A token is its word times sqrt(width) plus its position (Vaswani et al.), or a layer norm, epsilon 1e-8, of"
        " word plus position (code).",
    )
    start: Literal["xavier", "normal"] = Field(
        "xavier",
        description="Weights at the start: Xavier-uniform with zero biases; or normal of deviation 0.02, a zero word for padding,"
        " biases outside attention uniform within 1/sqrt(inputs) (code).",
    )
    dropout: float = Field(0.1, ge=0, le=0.9, description="Dropout after the embedding and each sub-layer.")
    inner_dropout: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="Dropout inside a layer: on the probabilities of both attentions and after the activation (code: 0.1).",
    )


Evaluation = Literal["centre", "whole", "short_side"]


class Augment(Section):
    """Training augmentation, drawn per image and applied to a whole batch at once (paper §4)."""

    crop: Literal["window", "area"] = Field(
        "window",
        description="window: crop of model size out of the stored image (paper); area: random share of it, resized (code).",
    )
    area: Annotated[tuple[float, float], Interval(0.01, 1)] = Field(
        (0.08, 1.0), description="crop area: range of the share of the image's area."
    )
    ratio: Annotated[tuple[float, float], Interval(0.1, 10)] = Field(
        (0.75, 4 / 3), description="crop area: range of the width-to-height ratio."
    )
    attempts: int = Field(
        0,
        ge=0,
        le=100,
        description="crop area: draws of share and ratio until both sides fit into the original picture, then the largest centred"
        " crop of the nearest ratio (code: 10); 0: one draw on the stored square, its sides cut to it.",
    )
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    rotation: float = Field(10.0, ge=0, le=180, description="Largest rotation in degrees, either way.")
    brightness: float = Field(0.4, ge=0, le=1, description="Brightness factor is drawn from [1-x, 1+x].")
    contrast: float = Field(0.4, ge=0, le=1, description="Contrast factor is drawn from [1-x, 1+x].")
    jitter_probability: float = Field(
        0.8, ge=0, le=1, description="Probability that an image's brightness and contrast change."
    )
    evaluation: Evaluation = Field(
        "centre",
        description="Without augmentation: the centre window of the stored image (paper); the whole image squashed (code,"
        " pre-training); or the central square of the original picture, as long as its short side (code, fine-tuning).",
    )


class Optimiser(Section):
    """Optimiser and its learning rates (paper §4.2)."""

    name: Literal["sgd", "adam"] = Field("sgd", description="sgd (transformers) or adam (ResNets).")
    lr: float = Field(3e-3, ge=0, le=LARGEST_RATE, description="Peak learning rate of the image side.")
    text_lr: float = Field(3e-4, ge=0, le=LARGEST_RATE, description="Peak learning rate of the text encoder.")
    decoder_lr: float = Field(
        3e-4, ge=0, le=LARGEST_RATE, description="Peak learning rate of the report transformer."
    )
    head_lr: float = Field(
        0.0, ge=0, le=LARGEST_RATE, description="Peak learning rate of the linear classifier; 0 takes lr."
    )
    momentum: float = Field(0.9, ge=0, le=0.999, description="SGD momentum.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Weight decay; never on biases.")
    decay_norms: bool = Field(
        False, description="Also decay BERT's LayerNorm weights, as the released code does."
    )
    clip_norm: float = Field(0.0, ge=0, le=1e6, description="Largest gradient norm; 0 switches clipping off.")
    lookahead_every: int = Field(
        0, ge=0, le=1000, description="Lookahead: synchronise slow weights each N steps; 0 switches it off."
    )
    lookahead_alpha: float = Field(
        0.5, ge=0, le=1, description="Lookahead: step of the slow weights towards the fast ones."
    )

    def at(self, name: str, lr: float) -> Self:
        """The same optimiser by another name and at another peak rate.

        The other rates keep their ratio to `lr`, up to the largest rate that is allowed.
        """
        factor = lr / self.lr if self.lr else 1.0
        scaled = {
            key: min(LARGEST_RATE, factor * getattr(self, key))
            for key in ("text_lr", "decoder_lr", "head_lr")
        }
        return self.replace(name=name, lr=lr, **scaled)


class Training(Section):
    """What every run of the one training loop needs; shared by pre-training and fine-tuning."""

    steps: int = Field(300_000, ge=1, le=10_000_000, description="Optimiser steps.")
    warmup_steps: int = Field(
        10_000, ge=0, le=10_000_000, description="Linear warm-up steps; cosine decay to 0 follows."
    )
    schedule_step: Literal["split", "current", "next"] = Field(
        "split",
        description="Point of the schedule that update i, counted from 0, takes: i + 1 in the warm-up and i after it; i, so that the"
        " first rate is 0 (code, pre-training); i + 1, so that the last one is (code, fine-tuning).",
    )
    batch_size: int = Field(32, ge=1, le=65536, description="Studies (or images) in a step.")
    last_batch: Literal["drop", "keep"] = Field(
        "drop",
        description="The incomplete batch at the end of an epoch: left out, or a smaller step (code, fine-tuning).",
    )
    micro_batches: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = Field(
        "auto",
        description="Parts of a batch whose gradients are accumulated, for a GPU with less memory: auto begins with 1 and doubles"
        " where a batch does not fit. Losses and gradients of pre-training are those of the whole batch, at the cost of one more"
        " forward pass; batch normalisation uses a part's statistics.",
    )
    precision: Literal["bf16", "fp16", "fp32", "apex-o1", "apex-o2"] = Field(
        "bf16", description="Arithmetic of the forward pass."
    )
    optimiser: Optimiser = Field(default_factory=Optimiser, description="Optimiser.")
    augment: Augment = Field(default_factory=Augment, description="Augmentation.")
    select: Literal["best", "last"] = Field(
        "best", description="Keep the weights that validated best, or the last ones."
    )
    validate_every: int = Field(
        0, ge=0, le=10_000_000, description="Steps between validations; 0 means once an epoch."
    )
    validations: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Most validations after the one at step 0: of those that are due, more at the beginning than later, and the last;"
        " 0 means all.",
    )
    checkpoint_every: int = Field(
        1000, ge=1, le=10_000_000, description="Steps between resume states on disk."
    )
    log_every: int = Field(50, ge=1, le=1_000_000, description="Steps between lines in metrics.jsonl.")
    compile: bool = Field(False, description="Compile the model with torch.compile.")
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of initialisation, data order, augmentation and dropout."
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is not below steps {self.steps}; lower it")
        return self

    def validation_steps(self, epoch_steps: int) -> list[int]:
        """Steps after which a run validates, in order, the last one among them; the untrained module comes on top.

        Of more than `validations` due ones, number i of them is the one at the share (i / validations)^2, and never before
        the i-th: a learning curve changes most at its beginning.
        """
        every, most = self.validate_every or epoch_steps, self.validations
        due = [*range(every, self.steps, every), self.steps]
        if not most or len(due) <= most:
            return due
        return [due[max(number, round(len(due) * (number / most) ** 2)) - 1] for number in range(1, most + 1)]


class Words(Section):
    """Visual words, for objectives that learn from crops (TransVW)."""

    count: int = Field(0, ge=0, le=10_000, description="Visual words to find; 0 finds none.")
    instances: int = Field(
        1000, ge=1, le=1_000_000, description="Training images that show a word, its reference among them."
    )
    held_out: int = Field(100, ge=1, le=1_000_000, description="Held-out images that show a word.")
    size: float = Field(0.4, ge=0.05, le=1, description="Side of a word's crop as a share of the image's.")
    distance: float = Field(
        0.03, ge=0, le=1, description="Smallest distance of two words as a share of the image's side."
    )
    black: float = Field(0.15, ge=0, le=1, description="Largest share of black pixels in a reference's crop.")
    features: int = Field(64, ge=1, le=1024, description="Principal components by which images are compared.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of references and places.")


class Candidate(Section):
    """An optimiser and its peak learning rate."""

    name: Literal["sgd", "adam"] = Field(description="Optimiser.")
    lr: float = Field(gt=0, le=LARGEST_RATE, description="Peak learning rate of the image side.")


class Pilots(Section):
    """Learning-rate pilots: short pre-trainings from one start, of which held-out pre-training loss chooses one."""

    budget: float = Field(
        0.02, gt=0, le=1, description="Steps of all candidates together, as a share of the pre-training's."
    )
    grid: Annotated[list[Candidate], Unique] = Field(
        [], description="Candidates beside the configured optimiser and rate, which is always one."
    )

    def candidates(self, optimiser: Optimiser) -> list[Candidate]:
        """The configured optimiser and rate, then the others of the grid."""
        configured = Candidate(name=optimiser.name, lr=optimiser.lr)
        return [configured, *(each for each in self.grid if each != configured)]

    def shortened(self, training: Training) -> Training:
        """The run of one candidate: an equal part of the budget, with a warm-up of the same share.

        It validates before its first and after its last step, and the last weights count.

        Raises:
            ValueError: the budget is less than a step per candidate.
        """
        count = len(self.candidates(training.optimiser))
        if not (steps := int(self.budget * training.steps / count + 1e-9)):
            raise ValueError(
                f"a share of {self.budget:g} of {training.steps} steps gives none to each of {count} candidates; raise it"
            )
        warmup = min(steps - 1, round(training.warmup_steps * steps / training.steps))
        return training.replace(steps=steps, warmup_steps=warmup, validate_every=steps, select="last")


class Pretrain(Section):
    """Pre-training of one encoder, on MIMIC-CXR-JPG unless `sources` says otherwise."""

    objective: str = Field(
        "refers", description="Objective: the name of a file in workflow/scripts/refers/methods/."
    )
    sources: Annotated[list[str], Field(min_length=1), Unique] = Field(
        ["mimic"],
        description="Downloads whose images are learned from, keys of `sources`: MIMIC-CXR with its reports, or frontal and"
        " lateral images of others, pooled, without reports. Of those, no image of a test set of the study takes part, no"
        " image of a patient in one, and no identical picture; validation images are held out.",
    )
    init: Literal["scratch", "imagenet"] = Field(
        "scratch",
        description="Start of the encoder: random, or the encoder of the method `imagenet`, whose activation it then takes over."
        " Only a radiograph transformer of the same sizes and positions can start there.",
    )
    model: Model = Field(
        default_factory=Transformer, description="The encoder; `architecture` says which kind."
    )
    rate: Literal["fixed", "pilot"] = Field(
        "fixed",
        description="Optimiser and peak learning rate: fixed, those of training.optimiser; pilot, those with the lowest"
        " held-out pre-training loss in short runs (`pilots`), of which training.optimiser is one candidate.",
    )
    training: Training = Field(default_factory=Training, description="The training loop.")
    words: Words = Field(
        default_factory=Words, description="Visual words, where the objective learns from crops."
    )
    reports: Literal["own", "shuffled"] = Field(
        "own",
        description="The report of each study: its own, or, as a control, that of another study of the same set (train or"
        " held out). Labels stay. Objectives that read no reports are not changed by it.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the objective, as its file's `Settings` declares them."
    )
    # rows are made of it before any job is told its settings, so it is no part of these
    seeds: Annotated[list[Seed], Field(min_length=1), Unique] | None = Field(
        None,
        exclude=True,
        description="Pre-training seeds, in the place of training.seed. The first is the method's own; every other one is a"
        " row of its own, named like refers_seed1, in study.methods behind the method where that is there.",
    )

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        if self.model.input:
            raise ValueError(
                "model.input describes the weights of a checkpoint; remove it, or import one (methods.*.checkpoint)"
            )
        return self

    def at(self, candidate: Candidate) -> Self:
        """The same settings with the optimiser and rate of a pilot's candidate."""
        optimiser = self.training.optimiser.at(candidate.name, candidate.lr)
        return self.replace(training=self.training.replace(optimiser=optimiser))


class Finetune(Section):
    """Fine-tuning of one encoder on one dataset, label ratio and seed."""

    training: Training = Field(default_factory=Training, description="The training loop.")
    labels: Literal["own", "shuffled"] = Field(
        "own",
        description="Labels of the training and validation images: their own, or, as a control, permuted over the images of"
        " the set. The test set keeps its labels.",
    )
    dropout: float = Field(0.0, ge=0, le=0.9, description="Dropout before the linear classifier.")
    binary_logits: Literal[1, 2] = Field(
        2,
        description="Logits of a single class: 2 with cross-entropy, or 1 with binary cross-entropy (code). Both are the same"
        " function; 2 move apart twice as fast.",
    )
    evaluation_batch: int = Field(
        256, ge=1, le=65536, description="Images in a forward pass without gradients."
    )


class Features(Section):
    """Features of a frozen encoder: what the linear classifier of a fine-tune reads, for every image of a download."""

    evaluation: Evaluation = Field("centre", description="As in training.augment of fine-tuning.")
    precision: Literal["bf16", "fp16", "fp32"] = Field(
        "fp32", description="Arithmetic of the forward pass; features are stored in fp32."
    )
    batch_size: int = Field(256, ge=1, le=65536, description="Images in a forward pass.")


class ProbeRule(Section):
    """Linear probe: logistic regression per class on frozen features, standardised over the training images."""

    strengths: Annotated[list[Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1), Unique] = Field(
        [10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5],
        description="Strengths s of the penalty s/2 |w|^2 beside the mean loss. Each class takes the one with the highest"
        " validation AUC; ties, and a class without both labels in the validation set, go to the lowest validation loss.",
    )
    iterations: int = Field(
        200, ge=1, le=100_000, description="Most L-BFGS iterations per strength, from the strongest on."
    )


class Probe(ProbeRule):
    """What probe.py is told."""

    labels: Literal["own", "shuffled"] = Field(description="As in the method's fine-tuning.")


class SplitRule(Section):
    """How a dataset is split into training, validation and test set."""

    kind: Literal["official", "released", "random"] = Field(
        description="The download's own lists, the lists of the authors' repository, or a seeded draw of patients."
    )
    fractions: Annotated[tuple[Share, Share, Share], Strict(False)] = Field(
        (0.7, 0.1, 0.2),
        description="Shares of train, val and test; of official lists the ratio of the first two.",
    )
    seed: Seed = Field(0, description="Seed of the draw of patients.")

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions {list(self.fractions)} do not sum to 1")
        return self


class Split(SplitRule):
    """What split_dataset.py is told."""

    dataset: str = Field(description="Column of the tables.")
    classes: Annotated[list[str], Field(min_length=1), Unique] = Field(
        description="Classes, in the order of the dataset's tables and released lists."
    )
    views: Annotated[list[str], Field(min_length=1), Unique] = Field(description="Views that take part.")
