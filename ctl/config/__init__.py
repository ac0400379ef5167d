"""`creche config …`: check, change and reload configuration, and go back."""

from ctl.config import check, import_, reload, rollback, set_, show, unset, versions

HELP = "check, change and reload configuration, and go back"
MORE = """\
Examples:
  creche config check /etc/creche/router.toml
  creche config set strategy prefix --reload
  creche config rollback
  creche config import litellm config.yaml -o router.toml
"""
VERBS = {
    "check": check,
    "show": show,
    "set": set_,
    "unset": unset,
    "reload": reload,
    "versions": versions,
    "rollback": rollback,
    "import": import_,
}
