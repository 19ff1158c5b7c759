"""An empty restic repository that opens quickly.

restic makes its keys so that each command takes half a second to turn the password into one. This key was made with the
least work that scrypt allows, which turns minutes of tests into seconds and would be no protection at all.
"""

import base64
import hashlib
from pathlib import Path

PASSWORD = "correct horse"

_KEY = (
    '{"created":"2026-11-23T00:00:00Z","username":"test","hostname":"test","kdf":"scrypt","N":2,"r":8,"p":1,"salt":'
    '"tDDIiB1cOd5DsiRGHZ9V5gXOhtqikC5k/Q6MgeXHhGvMWgRHSscBJVYDoiL1Hae4ht6S84bqyYA684W54k4RXA==","data":'
    '"g4Mvn9afyw846dWuyQg3KYQGpduRMJlZpXoMqZjxY4sMy5uD+jr3GZdNrUaYzXyennIwNhk2ias0ZzEivYVGanW4JL1WlCzhdWqZinzKdbOFvyCtRbfJ'
    '3wbZX9flJ6rHgbZNycR7seFeiJ4NiU7l3vQLKenYLN0//3Y0eGWDfk6YgwnHHzc+12xboay6Obki/OE4pD4POcLheEjlNoPM6g=="}'
)
_CONFIG = (
    "+tY7HN+FJY970ujsjlOyrKuCLZyCvK5HZpKQFY92U29vszJkkdl33j/gkxleiW68TaWODRtstixDRtlEmM8ZeeiemsWB4Ibo5rcq209jvpGTjEyX"
    "F2+iOaMNyBUuCyCMOqIqrj5Y+lvd4VdKQ9/wRNGwuJ1xnj2chY720Gv4ae3h76vlXv9kAIQkcGXJIF4Yvj9LXDiTPFdiMPg="
)


def plant(folder: Path) -> None:
    """Makes the repository at `folder`."""
    for name in ("data", "index", "keys", "locks", "snapshots"):
        (folder / name).mkdir(parents=True)
    (folder / "config").write_bytes(base64.b64decode(_CONFIG))
    (folder / "keys" / hashlib.sha256(_KEY.encode()).hexdigest()).write_text(_KEY)
