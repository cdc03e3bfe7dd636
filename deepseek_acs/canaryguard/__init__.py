"""Takes the requests from the new groups of an update: sets their weight in the HTTPRoute to 0 if too many requests
fail, if the first tokens come too late, or if no leader is ready.

The program reaches its pod as a ConfigMap (components/canary_guard.py), and uses the API server with the pod's service
account and the metrics of the leaders. All that it has to know later is the weight in the route, so a restart of the
program only begins another window."""
