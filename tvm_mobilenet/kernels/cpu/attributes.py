"""Attributes of kernels that the tuner's workers read too: nothing of TVM is imported here."""

IN_FIXED_POINT = "in_fixed_point"  # the places of a kernel's bias and scale
ORDERED = "ordered"  # the place of the table of the order of a kernel's sums
IN_WORDS = "in_words"  # how many steps are summed in 16 bits
TAPS_IN_WORDS = "taps_in_words"  # how many taps of a depthwise filter are
COUNTS = 2  # of a tile's steps: how many are summed in fours, and in fours or pairs
WORD_PRODUCTS = 2  # of a step: 16 bits hold the sum of any two, but for weights of -128
WEIGHTS_PLACE = 1
