"""How many tokens the loss projects onto the vocabulary at a time. Apart from `loss`, for what is without PyTorch."""

from typing import Final

_FLOAT32: Final = 4
# Large enough for the matrix product to be worth its start, small beside what a step takes anyway.
_CHUNK_BYTES: Final = {"cuda": 512 << 20}
_CHUNK_BYTES_ELSEWHERE: Final = 64 << 20


def chunk_tokens(kind: str, vocabulary: int) -> int:
    """Tokens whose logits, in float32, fill a chunk. `kind`: PyTorch's type of device."""
    return max(1, _CHUNK_BYTES.get(kind, _CHUNK_BYTES_ELSEWHERE) // (_FLOAT32 * vocabulary))
