"""`python -m penstock.cli`: the command `penstock` of exactly this interpreter."""

import sys

from penstock import cli

sys.exit(cli.main())
