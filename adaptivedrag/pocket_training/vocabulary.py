"""A CLIP tokenizer whose vocabulary is the words of the scenes' captions.

It also has every byte, so any prompt can be encoded; words of no caption become letters.
"""

import itertools
from collections import Counter
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from adaptivedrag.scenes import training_scene

Merge = tuple[str, str]
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77


def build_tokenizer(scenes: int = 2400) -> CLIPTokenizer:
    """Learn byte pairs until every word of the training captions is one token."""
    captions = (training_scene(i).caption() for i in range(scenes))
    merges = learn_merges(sorted({word for text in captions for word in _words(text)}))
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [first + second for first, second in merges]
    vocabulary = {token: i for i, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def learn_merges(words: Iterable[str]) -> list[Merge]:
    """Return the merges, most frequent pair first, that make every word a single token."""
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[Merge] = []
    while pairs := Counter(pair for word in spelled for pair in itertools.pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(word, best) for word in spelled]
    return merges


def _merged(word: list[str], pair: Merge) -> list[str]:
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def _words(caption: str) -> list[str]:
    return caption.lower().replace(",", " , ").split()
