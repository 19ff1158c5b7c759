"""The `Modelfile` with which Ollama takes a GGUF file, in the words of the template that the adapter learnt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TEMPLATES: Final = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class _Translation:
    """One of our Jinja templates in Go's language, and what ends an answer ({eos}: the tokenizer's own end)."""

    template: str
    stop: str


# The language is https://github.com/ollama/ollama/blob/main/docs/template.md; the token that begins a text is added by
# Ollama. For a template of the model's own Ollama takes what it knows of the one that the GGUF file carries.
_TRANSLATIONS: Final = {
    "gemma": _Translation(
        "<start_of_turn>user\n"
        "{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}<end_of_turn>\n"
        "<start_of_turn>model\n"
        "{{ .Response }}<end_of_turn>\n",
        "<end_of_turn>",
    ),
    "plain": _Translation(
        "{{ if .System }}{{ .System }}\n\n{{ end }}"
        "### Instruction:\n{{ .Prompt }}\n\n### Response:\n"
        "{{ .Response }}{eos}\n",
        "{eos}",
    ),
}


def modelfile(gguf_file: str, chat_template: str | None, eos_token: str | None) -> str:
    """The text of a Modelfile for a GGUF file beside it."""
    lines = [f"FROM ./{gguf_file}"]
    for name, translation in _TRANSLATIONS.items():
        if chat_template == (_TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"):
            template = translation.template.replace("{eos}", eos_token or "")
            lines.append(f'TEMPLATE """{template}"""')
            stop = translation.stop.replace("{eos}", eos_token or "")
            if stop:
                lines.append(f'PARAMETER stop "{stop}"')
    return "\n".join(lines) + "\n"
