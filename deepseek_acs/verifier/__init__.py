"""Does the endpoint answer, and if not, which layer is at fault: ``python -m deepseek_acs.verifier``.

Two ways in, with the same checks of the engine (``checks.py``):

- from outside (``outside.py``): reads the cluster's objects, then tests each ready leader through a port-forward;
- inside the cluster (``inside.py``): what a client there uses, DNS, Service, engine. Standard library only."""
