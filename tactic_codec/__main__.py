"""``python -m tactic_codec`` is the command ``tactic``."""

import _signal  # type: ignore[import-not-found]  # "signal" takes 20 ms to import


def run() -> None:
    """Run the command; until it begins, an interrupt ends the process without a traceback."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from tactic_codec.cli import main

    main(prog_name="tactic")


if __name__ == "__main__":
    run()
