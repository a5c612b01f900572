"""What a benchmark leaves behind: the results file, its statistics, and tables made from it.

Nothing here imports an engine; ``bench`` writes through this package and ``report`` reads with it.
"""
