"""The coders that benchmarks compare: a model at several efforts, and other codecs.

Benchmarks import this module; by itself it does nothing.
"""

from collections.abc import Iterator

from tactic_codec.codec import Codec
from tactic_codec.evaluation.coders import Coder, ModelCoder, RivalCoder
from tactic_codec.rivals import Setting, rival


def coders(
    codec: Codec, efforts: str, codecs: str, levels: tuple[Setting, ...] = ()
) -> Iterator[Coder]:
    """Yield the model at every effort, such as "0,2", then other codecs, such as "avif,webp".

    Args:
        codec: the model; its coders are called NAME effort N.
        efforts: see `Codec.compress`.
        codecs: see `tactic_codec.rivals`; may be empty.
        levels: of the model; all of them by default.
    """
    for effort in map(int, efforts.split(",")):
        own = ModelCoder(codec, name=f"{codec.model.name} effort {effort}", effort=effort)
        yield own.at(levels or own.grid)
    for name in filter(None, codecs.split(",")):
        yield RivalCoder(rival(name))
