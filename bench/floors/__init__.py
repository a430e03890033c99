"""The floors: what each place itself costs, without fences, leases, rules or events."""
