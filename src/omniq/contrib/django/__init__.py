"""Django: settings, tasks backend, transactions, commands, admin and dashboard."""
