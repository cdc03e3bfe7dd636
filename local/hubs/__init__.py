"""Emulators of the model hubs that weights come from, ModelScope and Hugging Face, over a folder of repositories.

A hub is two things: an API that lists and redirects, and a content server (CDN) with signed, expiring addresses that
must never see the API's credentials. Both play on one port; the CDN uses another host name, as real ones do. What the
answers look like is written down where they are made, :mod:`local.hubs.modelscope` and :mod:`local.hubs.huggingface`;
the tests prove it by the hubs' own client libraries."""
