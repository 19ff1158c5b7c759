"""A checkpoint made into models that other programs load: merged safetensors, and GGUF with a Modelfile for Ollama.

Each file is read back before it counts, and its next-token distributions are compared with the adapter's.
"""
