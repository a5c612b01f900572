"""How long a kernel takes on a core that is not there, from the code that LLVM makes of it.

``listing`` reads the assembly, ``loops`` finds its innermost loops, ``x86_64`` and ``aarch64`` say
what its instructions do, ``interpreter`` follows them through loops whose trip counts it thereby
learns, ``scoreboard`` times them by the core's widths and latencies, ``caches`` adds what the core
waits for bytes, and ``estimate`` puts a candidate through all of it.
"""
