"""Jupyter's settings inside the image `dev`. Jupyter runs this file with `get_config` defined."""

import os
import sys
from pathlib import Path

from jupyter_server.auth.identity import PasswordIdentityProvider

TOKEN_FILE = Path("/run/secrets/jupyter-token")
COLAB = "https://colab.research.google.com"

c = get_config()  # noqa: F821 - Jupyter defines it

token = TOKEN_FILE.read_text().strip() if TOKEN_FILE.is_file() else ""
if not token:
    sys.exit(
        f"jupyter: no token in {TOKEN_FILE}, and without one anybody on this machine could run code. "
        "`npm start` makes one."
    )

# A volume that is backed up; what is saved elsewhere in the container is gone with it.
Path("/logs/notebooks").mkdir(parents=True, exist_ok=True)


class OriginCheckedIdentityProvider(PasswordIdentityProvider):
    """Jupyter lets a page of any origin in that has the token; here the origin counts as well."""

    def should_check_origin(self, handler: object) -> bool:  # noqa: ARG002 - Jupyter calls it so
        return True


c.ServerApp.identity_provider_class = OriginCheckedIdentityProvider
c.IdentityProvider.token = token
c.ServerApp.ip = "0.0.0.0"  # noqa: S104 - inside the container; the machine binds the port to 127.0.0.1 alone
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/workspace"
c.ServerApp.allow_remote_access = True
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash"]}
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
if os.environ.get("TUNESTACK_JUPYTER_COLAB") == "1":
    c.ServerApp.allow_origin = COLAB
    c.ServerApp.allow_credentials = True
