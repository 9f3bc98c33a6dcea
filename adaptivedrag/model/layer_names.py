"""What tools call the layers of a model: as diffusers does, as the original code does, flattened.

Names follow from those of the model's own layers, so that every model of a topology has its own.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Set
from itertools import count, takewhile

_INNER = {
    "resnets": {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    },
    "downsamplers": {"conv": "op"},
}
_OUTSIDE_BLOCKS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MODULE = re.compile(r"(mid_block|(?:down|up)_blocks\.\d+)\.([a-z]+)\.(\d+)")


def original_names(layers: Collection[str]) -> dict[str, str]:
    """Return the names in the original code of Stable Diffusion, by those of diffusers' UNet.

    The original code counts the modules of all blocks through: `input_blocks.4.1` is
    `down_blocks.1.attentions.0` where every block has two resnets.
    """
    modules = {found[0] for name in layers if (found := _MODULE.match(name))}
    places = dict(_module_places(modules))
    found = {name: _OUTSIDE_BLOCKS[name] for name in layers if name in _OUTSIDE_BLOCKS}
    for name in layers:
        module = _MODULE.match(name)
        if module and (place := places.get(module[0])):
            inner = name[module.end() + 1 :]
            found[name] = f"{place}.{_INNER.get(module[2], {}).get(inner, inner)}"
    return found


def _module_places(modules: Set[str]) -> Iterator[tuple[str, str]]:
    """Yield modules of diffusers' UNet with their places in the original code."""
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", "middle_block.2"
    yield from _places_of_blocks(modules, "down_blocks", "input_blocks", 1)
    yield from _places_of_blocks(modules, "up_blocks", "output_blocks", 0)


def _places_of_blocks(
    modules: Set[str], blocks: str, original: str, place: int
) -> Iterator[tuple[str, str]]:
    for block in _numbered(modules, f"{blocks}.{{}}", ".resnets.0"):
        attends = f"{block}.attentions.0" in modules
        for resnet in _numbered(modules, f"{block}.resnets.{{}}"):
            yield resnet, f"{original}.{place}.0"
            yield resnet.replace("resnets", "attentions"), f"{original}.{place}.1"
            place += 1
        yield f"{block}.upsamplers.0", f"{original}.{place - 1}.{1 + attends}"
        if (downsampler := f"{block}.downsamplers.0") in modules:
            yield downsampler, f"{original}.{place}.0"
            place += 1


def _numbered(modules: Set[str], template: str, inside: str = "") -> Iterator[str]:
    """Yield the names of a template with 0, 1, … as long as there are such modules."""
    names = map(template.format, count())
    return takewhile(lambda name: name + inside in modules, names)


def flat(name: str) -> str:
    """Flatten the name of a layer as kohya does, without the parts that only some tools write."""
    plain = re.sub(r"^text_model[._]|[._]processor(?=[._])", "", name)
    return plain.replace(".", "_")


def layers_by_alias(layers: Collection[str]) -> Mapping[str, str]:
    """Return a model's layers by every flattened name that tools have for them."""
    found = {}
    for name in layers:
        found[flat(name)] = name
        # As diffusers named the adapters of attentions before it used peft.
        found[flat(re.sub(r"self_attn\.(q|k|v|out)_proj$", r"self_attn.to_\1", name))] = name
        found[flat(name.removesuffix(".0") if name.endswith("to_out.0") else name)] = name
    return found | {flat(other): name for name, other in original_names(layers).items()}
