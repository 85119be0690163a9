"""``python -m star_r1.cli``, as launchers of several processes need it."""

from star_r1.cli import main

main()
