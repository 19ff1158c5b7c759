"""How much drift each stage of an export may show, and the error that says which one showed more.

Two differences are told apart. QLoRA trains an adapter on a base in 4 bits and merges it into the base in bf16: what
that changes is inherent and is bounded by itself, as `base`. All else an export does itself, so every file is compared
with the adapter on the base in bf16.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tunestack_train.errors import SettingsError, TunestackError
from tunestack_train.export.drift import Drift

BASE: Final = "base"
MERGED: Final = "merged"
F16: Final = "f16"


@dataclass(frozen=True)
class Bound:
    """`max_kl` in nats; `min_top1` as a share of the positions."""

    max_kl: float
    min_top1: float


# What is seen is a tenth of these or less for merging and f16 (docs/experiments.md); for the quantised formats the KL
# is that which llama.cpp's own tables show for models of 7 to 9 billion weights, with room for smaller ones, whose
# distributions suffer more.
DEFAULTS: Final[Mapping[str, Bound]] = {
    BASE: Bound(0.2, 0.8),
    MERGED: Bound(0.01, 0.95),
    F16: Bound(0.01, 0.95),
    "q8_0": Bound(0.02, 0.93),
    "q5_1": Bound(0.08, 0.85),
    "q5_0": Bound(0.1, 0.85),
    "q4_1": Bound(0.2, 0.75),
    "q4_0": Bound(0.2, 0.75),
}

LABELS: Final[Mapping[str, str]] = {
    BASE: "adapter on the base in bf16",
    MERGED: "merged safetensors",
    F16: "GGUF f16",
}

_REMEDIES: Final[Mapping[str, str]] = {
    BASE: "the adapter leans on what 4 bits did to its base: train with load_in_4bit=false, or with "
    "bnb_4bit_quant_type=nf4; or accept it: --max-kl base=KL",
    MERGED: "the merged weights are not those of the adapter: check disk and memory, then export once more",
    F16: "the weights do not survive the conversion: check disk and memory, then export once more",
}


@dataclass(frozen=True)
class Bounds:
    """The bound of each stage, the defaults unless others were given."""

    by_stage: Mapping[str, Bound] = field(default_factory=lambda: DEFAULTS)

    def of(self, stage: str) -> Bound:
        return self.by_stage[stage]


@dataclass(frozen=True)
class Measured:
    """A stage and its drift: from the stage before, from the adapter on the base in bf16, and from it as trained.

    `file` is relative to the export's folder; None for a stage that writes none.
    """

    stage: str
    file: str | None
    from_before: Drift
    from_adapter: Drift
    from_trained: Drift

    @property
    def label(self) -> str:
        return LABELS.get(self.stage, f"GGUF {self.stage}")

    @property
    def bounded(self) -> Drift:
        """The drift that the stage's bound is for."""
        return self.from_trained if self.stage == BASE else self.from_adapter


class DriftError(TunestackError):
    """A file of the export does not say what the adapter says."""

    exit_code = 7


def parse_bounds(max_kl: Sequence[str], min_top1: Sequence[str]) -> Bounds:
    """Bounds out of `STAGE=NUMBER` texts. Raises SettingsError naming the text that cannot be read."""
    bounds = dict(DEFAULTS)
    for option, texts, most in (("--max-kl", max_kl, float("inf")), ("--min-top1", min_top1, 1.0)):
        for text in texts:
            stage, _, number = text.partition("=")
            try:
                value = float(number)
            except ValueError:
                value = -1.0
            if stage not in bounds or not 0 <= value <= most:
                raise SettingsError(
                    f"{option} = {text} cannot be used",
                    f"write {option} STAGE=NUMBER with one of the stages {', '.join(DEFAULTS)}",
                )
            before = bounds[stage]
            bounds[stage] = Bound(value, before.min_top1) if option == "--max-kl" else Bound(before.max_kl, value)
    return Bounds(bounds)


def require_within(measured: Sequence[Measured], bounds: Bounds, run: str) -> None:
    """Raises DriftError for the first stage beyond its bound, with the drift that each stage adds."""
    for stage in measured:
        bound = bounds.of(stage.stage)
        drift = stage.bounded
        if drift.kl <= bound.max_kl and drift.top1 >= bound.min_top1:
            continue
        whose = "as it was trained" if stage.stage == BASE else "on the base in bf16"
        lines = "\n".join(
            f"  {other.label:28} KL {other.from_before.kl:.6f}, top-1 {other.from_before.top1:.1%}"
            + ("   <-- here" if other is stage else "")
            for other in measured
        )
        raise DriftError(
            f"the export of {run} drifts: {stage.label} differs from the adapter {whose} by KL {drift.kl:.6f} nats "
            f"(allowed {bound.max_kl:g}), top-1 agreement {drift.top1:.1%} (allowed {bound.min_top1:.0%}); "
            f"each stage differs from the one before it by\n{lines}",
            _REMEDIES.get(
                stage.stage,
                "take a format with more bits: --quantisation q8_0; or accept the loss: "
                f"--max-kl {stage.stage}=KL --min-top1 {stage.stage}=SHARE",
            ),
        )
