"""The bytes that each part of the coder saves, and the time that it takes.

    python benchmarks/savings.py FOLDER [--model MODEL] [--levels 1,4,8] [--limit 100]

Pictures are taken evenly from those below the folder that training kept out, scaled to 224×224 and
coded in five or six ways, each of which adds one part to the way before it:

    one table a channel    latents rounded to nearest, one probability table for each channel
    offset                 the same, rounded with the level's dead zone, as `tactic compress` does
    neighbours             the same symbols, tables chosen by neighbours that are decoded already
    learned contexts       the same, chosen by a small network over all that is decoded already
    effort 1, effort 2     symbols moved by gradients, as `tactic compress --effort` does

The tables of the first three are counted here, on pictures below the folder that training saw,
those of the others are the model's own. Whole frames are counted, with their header and checksum.
Agreement is by the model's own classifier, which an effort asks; benchmarks/effort.py has the view
of another one. Seconds are medians of coding one picture with loaded networks, without decoding it.
Run it on an idle machine. Writes benchmarks/results/savings.json.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from kept_out import SIZE, kept_out, squares
from rows import write
from torch import Tensor

from tactic_codec import container, entropy, metrics
from tactic_codec.codec import Codec, load_model, quantise
from tactic_codec.container import Frame
from tactic_codec.entropy import ContextModel, FrequencyTables, LearnedContexts
from tactic_codec.model import PLAIN_OFFSET, latent_size
from tactic_codec.picture import Pixels
from tactic_codec.training.tables import fit_tables

RESULTS = Path(__file__).parent / "results" / "savings.json"
CALIBRATION = 500
EFFORTS = (1, 2)
NEIGHBOURS = ContextModel((1, 3, 8), (16, 64, 192))
"""What learned contexts are compared with."""


class Way(NamedTuple):
    """A way to code a picture.

    Attributes:
        code: from a picture, uint8 [224, 224, 3], to its frame.
        tables: that decode the frame's symbols.
    """

    code: Callable[[Pixels], bytes]
    tables: FrequencyTables


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--levels", default="1,4,8")
    parser.add_argument("--limit", type=int, default=100, help="how many pictures are coded")
    arguments = parser.parse_args()

    codec = load_model(arguments.model)
    names, seen = kept_out(codec.model, arguments.folder)
    test = squares(arguments.folder, names, arguments.limit)
    latents = [codec.analyse(pixels) for pixels in squares(arguments.folder, seen, CALIBRATION)]
    labels = [codec.most_likely(pixels) for pixels in test]
    rows = []
    for level in map(int, arguments.levels.split(",")):
        for name, way in ways(codec, level, latents).items():
            way.code(test[0])  # whatever is loaded late is loaded before any time is taken
            row = {"level": level, "coder": name, **measure(codec, way, test, labels)}
            print(row, flush=True)
            rows.append(row)
    result = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "images": len(test),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "rows": rows,
    }
    write(RESULTS, result)


def ways(
    codec: Codec, level: int, latents: Sequence[np.ndarray[Any, np.dtype[np.float32]]]
) -> dict[str, Way]:
    """Return the ways to code a picture at a level; latents [C, h, w] are what to count on."""
    coded = codec.model.level(level)
    plain, zoned = (
        [quantise(latent, coded.gain, offset) for latent in latents]
        for offset in (PLAIN_OFFSET, coded.offset)
    )
    own = codec.model.tables(level)
    learned = isinstance(own.contexts, LearnedContexts)

    def rounded(tables: FrequencyTables, offset: float) -> Way:
        def code(pixels: Pixels) -> bytes:
            symbols = quantise(codec.analyse(pixels), coded.gain, offset)
            payload = entropy.encode(symbols, tables)
            return container.pack(Frame(codec.model.fingerprint, level, SIZE, SIZE, payload))

        return Way(code, tables)

    def searched(effort: int) -> Way:
        return Way(lambda pixels: codec.compress(pixels, level, effort=effort).data, own)

    return {
        "one table a channel": rounded(fit_tables(plain, ContextModel(), evenly), PLAIN_OFFSET),
        "offset": rounded(fit_tables(zoned, ContextModel(), evenly), coded.offset),
        "neighbours": rounded(
            fit_tables(zoned, NEIGHBOURS, evenly) if learned else own, coded.offset
        ),
        **({"learned contexts": rounded(own, coded.offset)} if learned else {}),
        **{f"effort {effort}": searched(effort) for effort in EFFORTS},
    }


def evenly(symbols: Tensor) -> Tensor:
    """Return the same probability for every symbol: what tables lean on where counts are few."""
    return torch.full_like(symbols, 1 / symbols.shape[-1])


def measure(
    codec: Codec, way: Way, pictures: Sequence[Pixels], labels: Sequence[int]
) -> dict[str, Any]:
    """Code all pictures and return means, and the median of the seconds that coding took."""
    shape = (codec.model.channels, *latent_size(SIZE, SIZE, codec.model.stride))
    found, seconds = [], []
    for pixels, expected in zip(pictures, labels, strict=True):
        began = time.perf_counter()
        data = way.code(pixels)
        seconds.append(time.perf_counter() - began)
        frame = container.parse(data)
        decoded = codec.synthesise(entropy.decode(frame.payload, shape, way.tables), frame)
        found.append(
            (len(data), metrics.psnr(pixels, decoded), codec.most_likely(decoded) == expected)
        )
    size, psnr, agreement = np.mean(found, axis=0).tolist()
    return {
        "bytes": round(size, 1),
        "bpp": round(8 * size / SIZE**2, 4),
        "psnr": round(psnr, 3),
        "agreement": round(agreement, 4),
        "seconds": round(statistics.median(seconds), 4),
    }


if __name__ == "__main__":
    main()
