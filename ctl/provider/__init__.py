"""`creche provider …`: the endpoints that no registry knows, in the router's file."""

from ctl.provider import add, disable, enable, list_

HELP = "list, add, enable and disable providers"
MORE = """\
They are tables of the router's file, [providers.NAME]; its comments and order stay.

Examples:
  creche provider list
  creche provider disable openai --reload
"""
VERBS = {"list": list_, "enable": enable, "disable": disable, "add": add}
