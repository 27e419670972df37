"""A whole evaluation: from pictures and coders to a report."""

from collections.abc import Sequence

from tactic_codec.evaluation.bench import Bench, Heads
from tactic_codec.evaluation.coders import Coder
from tactic_codec.evaluation.evaluate import evaluate
from tactic_codec.evaluation.formats import Report
from tactic_codec.evaluation.pictures import Folder


def run(
    folders: Sequence[Folder],
    coders: Sequence[Coder],
    bench: Bench,
    *,
    size: int,
    held_out: bool,
    limit: int | None,
    within: tuple[float, float] = (0.0, 1.0),
    heads: Heads | None = None,
    compare: bool = True,
    notes: Sequence[str] = (),
) -> Report:
    """Measure coders on folders, and say how that was done.

    Args:
        folders: their pictures, at least one folder.
        coders: what is measured.
        bench: whose reference's task network answers.
        size: side of squares, in pixels, where the task is asked about such.
        held_out: whether only pictures were taken that training had kept out.
        limit: most pictures of a folder; None for all.
        within: the shares over which BD-rates are taken.
        heads: trains heads for every point, where that is wanted.
        compare: whether to compute BD-rates.
        notes: what was left out, and why.

    Raises:
        TacError, UnknownTask, BackendUnavailable: see `evaluate`.
    """
    model = bench.reference.model
    results = evaluate(folders, coders, bench, within=within, heads=heads, compare=compare)
    return Report(
        task=bench.task,
        size=None if bench.task.whole else size,
        reference=(model.name, model.fingerprint.hex()),
        witness=bench.task.witness(model),
        held_out=held_out,
        limit=limit,
        within=within,
        retrained_steps=heads.steps if heads else None,
        notes=tuple(notes),
        folders=tuple(results),
    )
