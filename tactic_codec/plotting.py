"""The way in to matplotlib, for whoever draws: say what is missing, leave nothing in the home."""

import os
import sys
from contextlib import ExitStack
from tempfile import TemporaryDirectory

from tactic_codec.errors import needed


def check() -> None:
    """Make sure that plots can be drawn; call it before matplotlib is imported.

    Raises:
        BackendUnavailable: matplotlib is missing.
    """
    with ExitStack() as stack:
        # It would leave a list of fonts in the home, which is read half a second faster than made.
        if "matplotlib" not in sys.modules and "MPLCONFIGDIR" not in os.environ:
            os.environ["MPLCONFIGDIR"] = stack.enter_context(TemporaryDirectory())
            stack.callback(os.environ.pop, "MPLCONFIGDIR")
        with needed("plots need matplotlib; run: pip install matplotlib"):
            import matplotlib.figure  # noqa: F401
