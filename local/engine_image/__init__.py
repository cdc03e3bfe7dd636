"""The programs of the image that plays vLLM's on real nodes: the names and arguments of the guide's image, behind them
``local.openai``. It computes no tokens."""
