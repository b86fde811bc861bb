"""OCPP: the local central system (CSMS) of the site's chargers, 1.6J, 2.0.1 and 2.1."""
