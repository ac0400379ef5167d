"""`creche provider …`: the endpoints that no registry knows, in the router's file."""

HELP = "list, add, enable and disable providers"
MORE = """\
They are tables of the router's file, [providers.NAME]; its comments and order stay.

Examples:
  creche provider list
  creche provider disable openai --reload
"""
#: Modules by name, as in ctl.config.
VERBS = {
    "list": "ctl.provider.list_",
    "enable": "ctl.provider.enable",
    "disable": "ctl.provider.disable",
    "add": "ctl.provider.add",
}
