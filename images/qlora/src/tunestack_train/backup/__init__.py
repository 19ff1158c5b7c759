"""training-backup: snapshots of checkpoints, logs and GGUF files by restic, proved by drills.

    settings ─► restic (one command at a time) ◄─ snapshot, restoring ◄─ service, cli
                contents: what is complete        status: what the others read

Standard library and the restic command, nothing else.
"""
