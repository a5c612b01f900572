"""What each kernel computes, in TVMScript, unscheduled.

Whatever makes a kernel keeps it (`cache`): TVM takes 0.1 s to parse one, and networks ask for the
same one again.
"""
