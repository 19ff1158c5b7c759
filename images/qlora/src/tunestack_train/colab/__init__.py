"""What the generated Colab notebooks do in more than a few lines: Drive, dependencies, links, watching, export."""
