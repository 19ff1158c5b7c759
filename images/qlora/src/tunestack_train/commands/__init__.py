"""The commands of `tunestack-train`, a module each.

A module has `add_parser(commands)`, which adds the command's options and sets `execute`, a function of the parsed
options that returns the exit code. What a person can mend is raised as TunestackError or SettingsProblems; the
dispatcher, `cli.main`, tells it.
"""
