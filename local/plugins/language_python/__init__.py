"""A fake of ``pulumi-language-python``, the plugin that runs Python programs for the ``pulumi`` CLI.

The official one ships with the CLI in Pulumi's own installers and wins wherever it is present (``local.engine``). This
one serves ``toolchain: pip``. The SDK's ``pulumi.automation`` has a server that runs a program in its own process; for
an update that is one preview too late, because modules which the preview has imported create no resources again.
"""
