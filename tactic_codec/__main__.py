"""``python -m tactic_codec`` is the command ``tactic``."""

from tactic_codec.cli import main

main(prog_name="tactic")
