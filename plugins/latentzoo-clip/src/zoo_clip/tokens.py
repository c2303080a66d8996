"""Turns texts into the numbers that a text tower reads: by open_clip's own vocabulary, or by
the tokenizer.json that lies beside the weights. Nothing is fetched here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InvalidConfig, MissingDependency
from zoo.installing import install_command
from zoo_clip.library import tokenizer

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class Words:
    """How a model reads texts.

    ``folder`` holds its tokenizer.json; None for open_clip's own vocabulary.
    """

    length: int
    clean: str
    strip_sep_token: bool = False
    folder: Path | None = None

    @classmethod
    def of(cls, text_cfg: Mapping[str, Any], folder: Path | None) -> "Words":
        """As a checked text_cfg says."""
        settings = text_cfg.get("tokenizer_kwargs") or {}
        return cls(
            text_cfg.get("context_length", tokenizer.DEFAULT_CONTEXT_LENGTH),
            settings.get("clean", "lower" if folder is None else "whitespace"),
            settings.get("strip_sep_token", False),
            folder,
        )

    def reader(self) -> "Reader":
        """What turns texts into numbers, N x length; it takes some time to make.

        Raises:
            MissingDependency: it needs tokenizers, which is not installed.
            InvalidConfig: the tokenizer's files cannot be used.
        """
        if self.folder is None:
            return Reader(
                tokenizer.SimpleTokenizer(context_length=self.length, clean=self.clean), 49408
            )
        return _FileReader(self, self.folder)


class Reader:
    """Texts to numbers, N x length, by open_clip's own tokenizer."""

    def __init__(self, call: Any, size: int):
        """Args: size: how many words its vocabulary has."""
        self._call, self.size = call, size

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """The numbers, and how many of the texts are longer, and were cut off."""
        numbers: Tensor = self._call(list(texts))
        room = numbers.shape[1] - 2  # beside the marks of beginning and end
        return numbers, sum(len(self._call.encode(text)) > room for text in texts)


class _FileReader(Reader):
    """The same by a tokenizer.json, as open_clip does it with the library transformers."""

    def __init__(self, words: Words, folder: Path):
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            raise MissingDependency(
                "the words of this model need tokenizers, which is not installed.\n"
                f"Type: {install_command('tokenizers')}"
            ) from None
        try:
            found = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises Exception itself
            raise InvalidConfig(f"{folder / TOKENIZER} cannot be used: {error!s:.300}") from None
        settings = _settings(folder)
        pad = _number(found, settings, "pad_token", folder)
        found.enable_truncation(words.length)
        found.enable_padding(length=words.length, pad_id=pad)
        super().__init__(found, found.get_vocab_size())
        self._clean = tokenizer.get_clean_fn(words.clean)
        # open_clip's towers of CLIPA never saw the mark that ends a text.
        strip = words.strip_sep_token
        self._dropped = _number(found, settings, "sep_token", folder) if strip else None

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        found = self._call.encode_batch([self._clean(text) for text in texts])
        numbers = torch.tensor([each.ids for each in found], dtype=torch.long)
        if self._dropped is not None:
            numbers = numbers.masked_fill(numbers == self._dropped, 0)
        return numbers, sum(bool(each.overflowing) for each in found)


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path} cannot be used: {error!s:.200}") from None
    return found if isinstance(found, dict) else {}


def _number(found: Any, settings: Mapping[str, Any], key: str, folder: Path) -> int:
    """The number of a special token."""
    token = settings.get(key)
    token = token.get("content") if isinstance(token, dict) else token
    number = found.token_to_id(token) if isinstance(token, str) else None
    if number is None:
        raise InvalidConfig(f"{folder / SETTINGS}: its {key}, {token!r:.80}, is no token of it")
    return int(number)
