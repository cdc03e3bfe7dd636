"""What the rules check. Each function gets plain data and yields findings; none of them imports Pulumi."""
