"""The checks behind the rules. Each function gets plain data and yields findings; none of them imports Pulumi."""
