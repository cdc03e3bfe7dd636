"""Fluid on the embedded cluster: its custom resource definitions and a controller that acts out their life.

What is real: validation of what the program writes, the order in which objects become ready, the claim and its volume,
the finalizers that keep a cache while pods mount it. What is not: no cache runs and nothing is loaded; how much is
cached is made up.
"""
