"""Monitoring: names of metrics, alerts, the dashboard. Pure functions of values."""
