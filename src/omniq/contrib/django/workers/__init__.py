"""Who works on the tasks of a project, and what surrounds each of them."""
