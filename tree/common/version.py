"""Which Creche this is: the installed distribution's version, one for all three daemons."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("creche")
except PackageNotFoundError:  # a source tree on the path, never installed
    VERSION = "0.0.0"
