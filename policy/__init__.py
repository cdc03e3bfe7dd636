"""The rules of a company for stacks of this project, as a Pulumi policy pack: pure checks, and their registration."""
