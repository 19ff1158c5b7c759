"""QLoRA fine-tuning of open language models, with the services around it. Importing this imports nothing else."""
