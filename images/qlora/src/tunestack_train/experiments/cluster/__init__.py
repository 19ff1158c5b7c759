"""Experiments as jobs of a Kubernetes cluster, by its API and the standard library alone."""
