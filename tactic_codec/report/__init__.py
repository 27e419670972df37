"""Facts about coded pictures, for ``tactic bpp-report``: bytes, bits a pixel, fidelity, accuracy.

    Frame, Model ─ size_facts ─▶ SizeFacts                  the frame and its tables
    original, decoded ─ fidelity ─▶ Fidelity                what it keeps
    original, bytes ─ rival_facts ─▶ RivalFacts             and what others keep in as many
    Codec, decoded, expected ─ Task.verdict ─▶ Verdict      what a network still sees in it
    Frame, Codec ─ row_of ─▶ Row                            all of these
    Row… ─ totals ─▶ Totals                                 in `facts`, as what stands above
    Row…, Totals ─ formats ─▶ JSON, CSV

bpp is 8 × bytes of the frame ÷ (width × height); what counts anything else is named otherwise.
Networks run only in the `Codec` that the caller hands in; without one neither Pillow nor a runtime
is imported. Refused with `ImageError`: an original or a label map whose size is not the frame's.
"""

from tactic_codec.report.facts import (
    Fidelity,
    Pixels,
    RivalFacts,
    RivalTotals,
    Row,
    SizeFacts,
    Totals,
    fidelity,
    rival_facts,
    row_of,
    size_facts,
    totals,
)
from tactic_codec.report.formats import as_csv, row_as_json, totals_as_json

__all__ = [
    "Fidelity",
    "Pixels",
    "RivalFacts",
    "RivalTotals",
    "Row",
    "SizeFacts",
    "Totals",
    "as_csv",
    "fidelity",
    "rival_facts",
    "row_as_json",
    "row_of",
    "size_facts",
    "totals",
    "totals_as_json",
]
