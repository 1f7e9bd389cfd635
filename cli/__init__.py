"""The command line: parses, calls one use case of ``shiftreg.api``, renders its value."""
