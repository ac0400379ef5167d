"""`creche key …`: who may use the models, and how much."""

HELP = "make, list and revoke clients' keys"
MORE = """\
A key is asked for where router.toml says  client_keys = "required". Clients send it as they send
one to OpenAI. It is shown once, when it is made; a router keeps its digest alone.

Examples:
  creche key create ana
  creche key create ci --tenant lab --models 'qwen3-*,embed' --rpm 600 --expires 30d
  creche key list
  creche key revoke ana
"""
#: Modules by name, as in ctl.config.
VERBS = {
    "create": "ctl.key.create",
    "list": "ctl.key.list_",
    "revoke": "ctl.key.revoke",
    "log": "ctl.key.log",
}
