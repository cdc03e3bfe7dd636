"""The Pulumi components of the program, one per file, and the settings that drive them."""
