"""`creche config …`: check, change and reload configuration, and go back."""

HELP = "check, change and reload configuration, and go back"
MORE = """\
Examples:
  creche config check /etc/creche/router.toml
  creche config set strategy prefix --reload
  creche config rollback
  creche config import litellm config.yaml -o router.toml
"""
#: Modules by name: each is read when it is wanted, for the checks of three daemons are many.
VERBS = {
    "check": "ctl.config.check",
    "show": "ctl.config.show",
    "set": "ctl.config.set_",
    "unset": "ctl.config.unset",
    "reload": "ctl.config.reload",
    "versions": "ctl.config.versions",
    "rollback": "ctl.config.rollback",
    "import": "ctl.config.import_",
}
