"""What peft's settings say of the strength of a LoRA's updates. No torch is loaded."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora_keys import PEFT, Factors

_TRAINING_ONLY = {
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}
"""Settings of peft that change no number of a trained adapter."""

_PLAIN_VALUES: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # With others, training begins by changing the weights of the model itself.
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),
}


def _can_match(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r:.100} is no pattern: {error}") from None
    return pattern


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Pattern = Annotated[str, AfterValidator(_can_match)]


class Strength(BaseModel):
    """The settings of peft that scale updates."""

    model_config = ConfigDict(extra="ignore", strict=True)

    r: Annotated[int, Field(ge=1)]
    lora_alpha: _Number
    use_rslora: bool = False
    rank_pattern: dict[_Pattern, int] = {}
    alpha_pattern: dict[_Pattern, _Number] = {}

    @classmethod
    def of(cls, settings: Any, source: str) -> Self:
        """Check settings of peft.

        Args:
            source: where they are, for messages.

        Raises:
            InvalidEdit: if there is one that changes the updates in a way that is not implemented.
        """
        if not isinstance(settings, dict):
            raise InvalidEdit(f"has settings in {source} that are no object: name another file")
        try:
            given = {name: value for name, value in settings.items() if value is not None}
            found = cls.model_validate(given)
        except ValidationError as error:
            (first, *_) = error.errors(include_url=False)
            place = ".".join(map(str, first["loc"]))
            raise InvalidEdit(
                f"has settings in {source} that cannot be read ({place}: {first['msg']})"
            ) from None
        _refuse_unknown(settings, source)
        return found

    def scales(self, found: Factors) -> bool:
        """Tell whether an update may have another strength than without these settings."""
        return self.use_rslora or bool(self.alpha_pattern) or found.rank != self.lora_alpha

    def alpha(self, found: Factors) -> float:
        """Return alpha, where an update is alpha / rank · B·A.

        Raises:
            InvalidEdit: if the rank is not that of the tensors.
        """
        from peft.utils.other import get_pattern_key

        name = found.stem.removeprefix(PEFT).removeprefix(f"{found.part}.")
        rank = self.rank_pattern.get(get_pattern_key(list(self.rank_pattern), name), self.r)
        if rank != found.rank:
            raise InvalidEdit(
                f"has rank {found.rank} for {found.stem!r:.200}, and peft's settings for it say "
                f"{rank}: they are of another file"
            )
        alpha = self.alpha_pattern.get(
            get_pattern_key(list(self.alpha_pattern), name), self.lora_alpha
        )
        return alpha * math.sqrt(rank) if self.use_rslora else alpha


def _refuse_unknown(settings: Mapping[str, Any], source: str) -> None:
    """Refuse settings that may change updates otherwise than by their strength."""
    for name, value in settings.items():
        known = name in _TRAINING_ONLY or name in Strength.model_fields
        if value and not known and value not in _PLAIN_VALUES.get(name, ()):
            raise InvalidEdit(
                f"has {name} = {value!r:.100} in {source}, and only plain LoRA is taken: export it "
                "as LoRA, or merge it into the model with the tool that made it"
            )
