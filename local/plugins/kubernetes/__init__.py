"""A fake of the kubernetes provider plugin: server-side apply against a real API server, with the part of the
official plugin's documented behaviour on which this program relies. The official one is used wherever it is present.
"""
