"""What can be known before anything is created: catalogues and arithmetic, without Pulumi."""
