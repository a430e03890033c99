"""What Django's tasks framework sees: the backends, their tasks and results."""
