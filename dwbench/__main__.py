"""`python -m dwbench`: the same as `dwbench`."""

import sys

from dwbench.cli import main

sys.exit(main())
