"""A small OpenAI-compatible server in the place of the engines of the embedded cluster.

It implements vLLM's part of the API: health, models, chat and plain completions, streamed or not, usage, API key,
metrics. **No token is computed**: every answer is the same sentence, which says so, and a token is a word here."""
