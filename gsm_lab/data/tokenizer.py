"""The closed vocabulary: text to token ids and back, with nothing lost and nothing unknown.

A word carries the space before it, every digit is a token of its own, every mark too, and every Chinese character, to
which a space before it does not belong. So ids are joined exactly as texts are: the ids of a prompt followed by those
of its completion are the ids of the whole, with a space between them or without.
"""

import hashlib
import itertools
import json
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex
from tokenizers import Tokenizer as WordTokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from gsm_lab.errors import DataError, TokenError
from gsm_lab.files import write_json, write_text
from gsm_lab.problems import Template

PATTERN = r" ?[\p{L}_&&[^\p{Han}]]+|\p{Han}| ?[\p{N}&&[^\p{Han}]]| ?[^\s\p{L}\p{N}\p{Han}_]|\s"
"""What one token is. Only its first character can be a space: `Tokenizer.encode` relies on that."""
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SPECIAL = (PAD, EOS, UNKNOWN)
MULTIPLE = 64
"""The vocabulary is filled up to a multiple of this, which matrix products like."""
MOST_REMEMBERED = 1 << 17
LONGEST_REMEMBERED = 32
"""Pieces of more characters are not remembered: they would seldom come again."""
_TOKENIZER_FILE = "tokenizer.json"
_CLASS_FILE = "gsm_lab_tokenizer"
_CLASS = f'''"""For transformers with trust_remote_code=True: reads tokenizer.json as it is."""

from transformers import PreTrainedTokenizerFast


class GsmLabTokenizer(PreTrainedTokenizerFast):
    """The tokenizer of {_TOKENIZER_FILE}, unchanged."""
'''
_CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""Passes the text of messages through, for servers that insist on messages."""


class Tokenizer:
    """Text to ids and back, over a closed vocabulary; equal if the vocabulary is.

    Raises:
        TokenError: two words of the vocabulary are the same, or one is not a token.
    """

    def __init__(self, words: Sequence[str]) -> None:
        doubles = sorted({word for word in words if word in SPECIAL}) or _doubles(words)
        if doubles:
            raise TokenError(f"the vocabulary holds {doubles[0]!r} twice: list every word once, and no special token.")
        self._words = tuple(words)
        self._tokenizer = _word_tokenizer(self.tokens)
        characters = sorted(set().union(*words))
        self._cut = _cutter(characters)
        wrong = next((word for word in words if self._cut(word) != [word]), None)
        if wrong is not None:
            raise TokenError(f"{wrong!r} is not one token, but {self._cut(wrong)}: list the parts as words.")
        self._ids = {word: array("i", [token_id]).tobytes() for token_id, word in enumerate(words, len(SPECIAL))}
        self._after_space = _Remembered(lambda piece: self._encode_piece(" " + piece))
        self._runs = _Remembered(self._encode_piece)
        loners = "".join(map(re.escape, _loners(characters)))
        self._cut_runs = re.compile(f"[{loners}]+| ?[^ {loners}]+| ").findall if loners else None

    @staticmethod
    def for_templates(templates: Iterable[Template]) -> "Tokenizer":
        """The tokenizer whose words are exactly those that the templates can render, whatever their order."""
        words: set[str] = set()
        for template in templates:
            pieces = set(template.pieces())
            cut = _cutter(sorted(set().union(*pieces)))
            words.update(*map(cut, pieces))
        return Tokenizer(sorted(words))

    def __len__(self) -> int:
        """How many ids have a meaning: words and special tokens, without the filling."""
        return len(SPECIAL) + len(self._words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[tuple[str, ...]]]:
        return Tokenizer, (self._words,)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The text of every id; the last ones only fill the vocabulary up and never come out of `encode`."""
        num_unused = -len(self) % MULTIPLE
        return (*SPECIAL, *self._words, *(f"<unused_{number}>" for number in range(num_unused)))

    @property
    def vocab_size(self) -> int:
        """How many ids a model needs, a multiple of 64."""
        return len(self.tokens)

    @property
    def pad_id(self) -> int:
        return SPECIAL.index(PAD)

    @property
    def eos_id(self) -> int:
        return SPECIAL.index(EOS)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: the same if and only if every text gets the same ids."""
        content = json.dumps([PATTERN, MULTIPLE, *self.tokens])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of the text, without any special token.

        Raises:
            TokenError: a word that the vocabulary lacks.
        """
        return array("i", self.encode_bytes(text)).tolist()

    def encode_bytes(self, text: str) -> bytes:
        """The same ids as `np.frombuffer(..., np.int32)` reads them, at half the cost.

        A text may be cut before every space, for no token has one after its first character, and around every Chinese
        character: what lies between two cuts is encoded once and remembered, unless it is long.

        Raises:
            TokenError: a word that the vocabulary lacks.
        """
        if self._cut_runs is not None and not text.isascii():
            return b"".join(map(self._runs.__getitem__, self._cut_runs(text)))
        first, *others = text.split(" ")
        return self._runs[first] + b"".join(map(self._after_space.__getitem__, others))

    def _encode_piece(self, piece: str) -> bytes:
        try:
            return b"".join(map(self._ids.__getitem__, self._cut(piece)))
        except KeyError:
            raise TokenError(self._fault(piece)) from None

    def _fault(self, text: str) -> str:
        """Which word of the text is unknown, as the tokenizers library cuts it."""
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):  # half of a surrogate pair is no text
            return f"{text!r} is not valid Unicode: give text that UTF-8 can write."
        begin, end = encoding.offsets[encoding.ids.index(SPECIAL.index(UNKNOWN))]
        return (
            f"{text[begin:end]!r} is not among the {len(self._words)} words of this tokenizer: "
            f"make it with Tokenizer.for_templates from every template whose text it is to read."
        )

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; pads and ends of sequence give none, everything else does, known or not."""
        silent = (self.pad_id, self.eos_id)
        return "".join(
            self.tokens[token_id] if token_id < len(self.tokens) else UNKNOWN
            for token_id in map(int, ids)
            if token_id not in silent
        )

    def ends(self, ids: Iterable[int]) -> list[int]:
        """How many characters of `decode(ids)` there are up to the end of each token."""
        return list(itertools.accumulate(len(self.decode((token_id,))) for token_id in ids))

    def save(self, folder: Path | str) -> None:
        """Write the files from which `Tokenizer.load` and transformers' `AutoTokenizer` read the same tokenizer.

        Raises:
            StorageError: a file cannot be written.
        """
        folder = Path(folder)
        write_text(folder / _TOKENIZER_FILE, self._tokenizer.to_str(pretty=True) + "\n")
        write_text(folder / f"{_CLASS_FILE}.py", _CLASS)
        write_json(folder / "tokenizer_config.json", _transformers_config())

    @staticmethod
    def load(folder: Path | str) -> "Tokenizer":
        """The tokenizer that `save` wrote.

        Raises:
            DataError: there is none, it is damaged, or it is of another kind.
        """
        path = Path(folder) / _TOKENIZER_FILE
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            vocabulary: dict[str, int] = written["model"]["vocab"]
            tokens = sorted(vocabulary, key=vocabulary.__getitem__)
            words = [token for token in tokens if token not in SPECIAL and not token.startswith("<unused_")]
            tokenizer = Tokenizer(words)
        except FileNotFoundError as error:
            raise DataError(f"there is no {path}: give the folder that Tokenizer.save wrote.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged or foreign ({error}): write it again with Tokenizer.save.") from error
        if json.loads(tokenizer._tokenizer.to_str()) != written:
            raise DataError(
                f"{path} does not describe a tokenizer of gsm_lab, or was written with another version of tokenizers: "
                f"write it again with Tokenizer.save."
            )
        return tokenizer


class _Remembered(dict[str, bytes]):
    """Ids by piece of text, found when a piece is first asked for."""

    def __init__(self, encode: Callable[[str], bytes]) -> None:
        super().__init__()
        self.encode = encode

    def __missing__(self, piece: str) -> bytes:
        ids = self.encode(piece)
        if len(piece) <= LONGEST_REMEMBERED and len(self) < MOST_REMEMBERED:
            self[piece] = ids
        return ids


def _cutter(characters: Sequence[str]) -> Callable[[str], list[str]]:
    """Cuts texts of these characters as PATTERN does, several times as fast as the library; others it cuts off singly.

    What a character is we ask the library, so that there is one definition: one that makes a word with its like, one
    that stands alone but carries the space before it, or neither.
    """
    joining = [one for one in characters if _is_one_token(one + one)]
    carrying = [one for one in characters if _is_one_token(" " + one) and one not in joining]
    kinds = [f"[{''.join(map(re.escape, joining))}]+"] * bool(joining)
    kinds += [f"[{''.join(map(re.escape, carrying))}]"] * bool(carrying)
    return re.compile(f" ?(?:{'|'.join(kinds)})|." if kinds else ".", re.DOTALL).findall


def _loners(characters: Sequence[str]) -> list[str]:
    """Those that make no token with anything beside them, not even with a space; the space itself aside."""
    return [one for one in characters if one != " " and not _is_one_token(one + one) and not _is_one_token(" " + one)]


@lru_cache(maxsize=1 << 16)
def _is_one_token(text: str) -> bool:
    return len(_splitter().pre_tokenize_str(text)) == 1


def _doubles(words: Sequence[str]) -> list[str]:
    return sorted({word for word in words if words.count(word) > 1}) if len(set(words)) < len(words) else []


@lru_cache(maxsize=1)
def _splitter() -> Split:
    return Split(Regex(PATTERN), behavior="isolated")


def _word_tokenizer(tokens: Sequence[str]) -> WordTokenizer:
    """The same vocabulary for the tokenizers library; text that looks like a special token is plain text to it."""
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = WordTokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = _splitter()
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.encode_special_tokens = True
    return tokenizer


def _transformers_config() -> dict[str, Any]:
    """tokenizer_config.json.

    Beside the config.json of a Qwen2 model, `AutoTokenizer` of transformers 5 would put Qwen2's own splitting in place
    of ours, without a word, whatever `tokenizer_class` says. It does not where `auto_map` names a class: then it reads
    tokenizer.json as it is, and runs that class only if told to trust the folder's code.
    """
    return {
        "auto_map": {"AutoTokenizer": [None, f"{_CLASS_FILE}.GsmLabTokenizer"]},
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": EOS,
        "unk_token": UNKNOWN,
        "bos_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": _CHAT_TEMPLATE,
    }
