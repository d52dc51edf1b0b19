"""``python -m fifteen.data``."""

import sys

from fifteen._diagnose._command import main

if __name__ == "__main__":
    sys.exit(main())
