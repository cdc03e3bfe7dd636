"""A fake of ``pulumi-language-python``, the plugin that runs Python programs for the ``pulumi`` CLI.

The official plugin ships with the CLI in Pulumi's own installers and is used wherever it is present
(``local.pulumi_environment``). This one serves ``toolchain: pip``. The SDK's ``pulumi.automation`` has a server that
runs a program in its own process. An update needs a new one: modules that the preview has imported create no resources
again."""
