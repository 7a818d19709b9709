"""`python -m gsm_lab` is `gsm-lab`."""

from gsm_lab.cli import main

main()
