"""Commands that try to break what is there: ``python -m tests.tools.NAME`` from a clone."""
