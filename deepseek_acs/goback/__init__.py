"""Puts the last accepted template back by hand: ``make back``. It reads the record of the gate, and checks that what
the template names still exists."""
