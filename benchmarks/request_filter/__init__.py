"""What the request filter costs."""
