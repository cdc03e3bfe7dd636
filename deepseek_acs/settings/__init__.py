"""The stack configuration: what a user may write under ``deepseek:deployment`` in ``Pulumi.<stack>.yaml``.

Plain frozen values only. Secrets are configuration keys of their own (``components/secrets.py``), because Pulumi
hands a secret inside an object to Python as plain text. ``stack.schema.json`` is generated from these models, and the
descriptions here are its texts.
"""
