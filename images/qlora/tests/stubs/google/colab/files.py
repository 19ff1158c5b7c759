"""google.colab.files: notes what would be downloaded."""

from google.colab import called


def download(filename: str) -> None:
    called("files.download", filename=filename)
