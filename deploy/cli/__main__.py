"""``python -m deploy.cli``: the command line where no script is installed."""

import sys

from deploy.cli import main

sys.exit(main())
