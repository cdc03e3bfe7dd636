"""A company's rules for stacks of this project, as a Pulumi policy pack: pure checks, and their registration."""
