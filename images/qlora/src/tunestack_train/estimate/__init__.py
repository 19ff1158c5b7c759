"""Memory and time of a run before it starts, from the model's config.json alone.

`architecture` reads the config, `memory` counts bytes, `duration` counts operations, `gpus` and `models` are facts with
their sources, `fit` puts them together and finds settings that fit, `report` tells it. Nothing here imports PyTorch.
"""
