"""The parts of `make up`: what to run, where, and how it is told."""
