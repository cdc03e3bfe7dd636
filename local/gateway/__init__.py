"""An emulator of a Gateway controller and its proxy, for tests of routes: it accepts the HTTPRoutes of the embedded
cluster, divides the requests by their weights among ready pods, and forwards each to its pod as
``kubectl port-forward`` does.

It serves one listener of plain HTTP, whatever the Gateways say, and knows of the routes only host names, paths,
backends and weights. Like a real proxy it learns of changes a little later (``LOOK_SECONDS``)."""
