"""The flow from image and pose to tokens, one call a stage; the node, the bag tools and the
benchmarks run it.
"""
