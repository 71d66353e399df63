"""Prefect's own clients, and a server of Prefect's, against ebbgate."""
