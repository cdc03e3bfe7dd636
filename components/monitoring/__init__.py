"""What is watched, and what follows from it: names of metrics, alerts, the dashboard. Plain functions of values."""
