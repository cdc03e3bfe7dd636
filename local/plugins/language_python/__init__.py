"""A stand-in for ``pulumi-language-python``, the plugin that runs Python programs for the ``pulumi`` CLI.

The official one ships beside the CLI in Pulumi's own installers and wins wherever it is present
(``local.engine``). This one serves what ``pulumi preview``, ``up``, ``refresh``, ``destroy``, ``import``,
``install`` and ``about`` ask of a project whose runtime is ``python`` with ``toolchain: pip``, and runs plugins
that are written in Python, such as policy packs.
"""
