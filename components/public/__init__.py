"""The components for other programs: flat arguments, checked as a stack file is."""
