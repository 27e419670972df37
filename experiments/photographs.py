"""Decode the training photographs once, into a shard of uint8 that training memory-maps.

    python experiments/photographs.py CLONES OUT --exclude photos-exclude.txt --data FOLDER

CLONES holds clones of the repositories of `SOURCES`, each as OWNER+NAME/repo or OWNER+NAME. FOLDER
holds the folders of `FOLDERS`. OUT gets train.u8 with its index, see
`tactic_codec.training.shards`; kept/, the files of 2 % of each repository by the hash of their
names, which are never trained on; and small/, those too small for training, for measuring, too.

Left out are what --exclude lists, what the default model's held-out.txt lists, files that cannot be
read, grey photographs, small ones, all but one of each group of near-duplicates, and
near-duplicates of what is kept; of small ones also near-duplicates of what is trained on.
"""

import argparse
import hashlib
import io
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tactic_codec.training.shards import ShardWriter


class Source(NamedTuple):
    """Where photographs come from."""

    place: str  # repository, or folder below FOLDER
    folder: str  # of the repository
    scales: tuple[float, float]  # of crops
    short: int = 300  # side in pixels, at least
    limit: int | None = None  # photographs


# JPEG of quality 70 to 75 is scaled down, so that a codec does not learn another one's blocks.
LOW, GOOD, THUMBNAIL = (0.5, 0.8), (0.5, 1.0), (0.6, 1.0)
SOURCES = (
    Source("Fernando-crz/image-search", "images", LOW),
    Source("ruixuejianfei/SYSU-Scene", "images", LOW),
    Source(
        "Rohan-Patil-1/Image-to-Poem-Generation-Using-Deep-Generative-Models", "data/images", LOW
    ),
    Source("mzahid36/Image-captioning-dataset-BCG-", "Images", GOOD),
    Source("prasadpol0555/Image-search-case-study", "data/images", GOOD),
    Source("mateusrafael4/Atividade_programacao_pose_estimation", "images", GOOD),
    Source("michaelgallacher/speed-limit-sign-detection", "images", GOOD),
    Source("LS-chen/Pedestrian-behavior-detection-and-prediction", "JPEGImages", GOOD),
    Source("alexeygrigorev/clothing-dataset", "images", LOW, limit=1500),
    Source("marcusklasson/GroceryStoreDataset", "dataset", LOW, limit=1500),
)
FOLDERS = (
    Source("imagenette/train", "", THUMBNAIL, 200),
    Source("imagenet-samples", "", THUMBNAIL, 200),
    Source("caltech101", "", THUMBNAIL, 200),
)
HELD_OUT = Path("models/general/held-out.txt")
LONGEST = 1280  # pixels; what is larger is halved until it is not
KEPT_SHARE = 0.02
SMALL = 256  # side in pixels, at least, of photographs that are too small for training
GREY = 2.0  # mean difference of the channels, in levels, below which a photograph is grey
NEAR, SAME = 6, 3
"""Bits of 64 in which hashes of near-duplicates differ at most: of what is kept and what is trained
on, and within what is trained on."""


def blobs(clone: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """Yield the pictures below a folder of a newest commit, by the hashes of their names."""
    listed = subprocess.run(
        ["git", "-C", clone, "ls-tree", "-r", "-z", "HEAD", "--", folder],
        check=True,
        capture_output=True,
    ).stdout.decode()
    rows = [row.split("\t") for row in listed.split("\0") if row]
    rows = [
        (path, meta.split()[2])
        for meta, path in rows
        if path.lower().endswith((".jpg", ".jpeg", ".png"))
    ]
    rows.sort(key=lambda row: digest(row[0]))
    with subprocess.Popen(
        ["git", "-C", clone, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as git:
        assert git.stdin and git.stdout
        for path, blob in rows:
            git.stdin.write(f"{blob}\n".encode())
            git.stdin.flush()
            header = git.stdout.readline().split()
            if len(header) != 3:  # the snapshot lacks it
                continue
            yield path, git.stdout.read(int(header[2]) + 1)[:-1]
        git.stdin.close()


def digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def difference_hash(picture: Image.Image) -> np.uint64:
    """Return 64 bits: where a small grey copy of a picture gets brighter to the right."""
    small = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)[0]


def nearest(bits: np.uint64, others: np.ndarray) -> int:
    return int(np.bitwise_count(others ^ bits).min()) if len(others) else 64


class Sieve:
    """Says which photographs are taken, and remembers them."""

    def __init__(self) -> None:
        self.kept = np.zeros(0, np.uint64)
        self.trained = np.zeros(0, np.uint64)

    def reason_to_drop(self, picture: Image.Image, sides: range, train: bool) -> str | None:
        """Return why a photograph is left out; one that is not is remembered."""
        if min(picture.size) not in sides:
            return "size"
        thumb = np.asarray(picture.resize((64, 64), Image.Resampling.BOX), np.float32)
        if np.abs(thumb - thumb.mean(2, keepdims=True)).mean() < GREY:
            return "grey"
        bits = difference_hash(picture)
        if nearest(bits, self.kept) <= NEAR:
            return "near kept"
        if nearest(bits, self.trained) <= (SAME if train else NEAR):
            return "near trained"
        if train:
            self.trained = np.append(self.trained, bits)
        else:
            self.kept = np.append(self.kept, bits)
        return None


def read(data: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    while max(picture.size) > LONGEST:
        picture = picture.reduce(2)
    return picture


def kept(name: str) -> bool:
    return digest(name) / 2**64 < KEPT_SHARE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clones", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--exclude", type=Path)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    excluded = set(arguments.exclude.read_text().splitlines()) if arguments.exclude else set()
    held_out = set(HELD_OUT.read_text().splitlines())
    sieve = Sieve()

    def photographs(source: Source) -> Iterator[tuple[str, bytes]]:
        if source.folder:
            clone = arguments.clones / source.place.replace("/", "+")
            yield from blobs(clone / "repo" if (clone / "repo").exists() else clone, source.folder)
        elif arguments.data:
            root = arguments.data / source.place
            for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")):
                yield path.relative_to(root).as_posix(), path.read_bytes()

    def take(source: Source, part: str) -> Iterator[tuple[str, bytes, Image.Image]]:
        counts: Counter[str] = Counter()
        sides = range(SMALL, source.short) if part == "small" else range(source.short, LONGEST + 1)
        share = KEPT_SHARE if part == "kept" else 1
        for path, data in photographs(source):
            if source.limit and counts[part] >= source.limit * share:
                break
            name = f"{source.place} {path}"
            if source.folder and part != "small" and kept(name) != (part == "kept"):
                continue
            if name in excluded or (not source.folder and path in held_out):
                counts["excluded"] += 1
                continue
            picture = read(data)
            reason = "unreadable"
            if picture is not None:
                reason = sieve.reason_to_drop(picture, sides, part == "train") or part
            counts[reason] += 1
            if picture is not None and reason == part:
                yield path, data, picture
        print(part, source.place, dict(counts), flush=True)

    def save(part: str) -> None:
        shutil.rmtree(arguments.out / part, ignore_errors=True)
        for source in SOURCES:
            folder = arguments.out / part / source.place.replace("/", "+")
            folder.mkdir(parents=True, exist_ok=True)
            for path, data, _ in take(source, part):
                (folder / path.replace("/", "+")).write_bytes(data)

    # Kept photographs first: what is trained on is compared with all of them.
    save("kept")
    with ShardWriter(arguments.out / "train") as shard:
        for source in (*SOURCES, *FOLDERS):
            for path, _, picture in take(source, "train"):
                shard.add(f"{source.place} {path}", np.asarray(picture), source.scales)
    save("small")


if __name__ == "__main__":
    main()
