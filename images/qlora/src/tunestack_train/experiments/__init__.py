"""Experiments through git: the runner of the queue that `docs/experiment-queue.md` describes.

Standard library and git only, so that it runs in a Colab notebook as in a container.
"""
