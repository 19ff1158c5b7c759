"""`python -m pip …`: notes its arguments."""

import sys

from google.colab import called

called("pip", arguments=" ".join(sys.argv[1:]))
