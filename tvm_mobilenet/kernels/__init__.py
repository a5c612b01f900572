"""What each kernel computes, in TVMScript, unscheduled.

Whatever makes a kernel keeps it (``parsed_once``): TVM takes time to parse one, and networks ask
for the same one again.
"""
