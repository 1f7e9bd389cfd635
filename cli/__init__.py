"""The command line: parses, calls one use case of ``shiftreg.api``, renders its value.

Modules that declare commands annotate with types and not with their names (no ``annotations`` of
``__future__``): Typer would compile each name again before it shows any help.
"""

import gc

# Before anything else is imported: nearly all that a command makes are modules, which stay. To look
# for garbage as often as Python does takes a tenth of the time until the help is there.
gc.set_threshold(50_000, 20)
