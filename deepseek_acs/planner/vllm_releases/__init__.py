"""What each version of vLLM accepts and does: data extracted from its published wheels, and data written by hand."""
