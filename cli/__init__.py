"""The command line: parses, calls one use case of ``shiftreg.api``, renders its value.

Modules that declare commands annotate with types and not with their names (no ``annotations`` of
``__future__``): Typer would compile each name again before it shows any help.
"""

import gc

# Before anything else is imported: what a command allocates at first are modules, which stay.
# Python's own threshold for collecting garbage takes a tenth of the time until the help is shown.
gc.set_threshold(50_000, 20)
