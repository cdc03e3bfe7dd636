"""The filter in front of the engine: what a request must be before vLLM sees it.

It reaches the leaders' pods as a ConfigMap (components/request_filter.py), runs inside vLLM's own server (``vllm serve
--middleware``), and needs nothing but Python 3.9.
"""
