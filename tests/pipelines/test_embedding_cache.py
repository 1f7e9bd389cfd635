"""What was encoded once is read again, the same to the last bit; whatever is wrong costs time."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftreg import pipelines
from shiftreg.errors import InvalidInputError
from shiftreg.pipelines import PromptEncoder
from shiftreg.pipelines.embedding_cache import EmbeddingCache, EncodedPrompt
from shiftreg.pipelines.families import family_of, find_family
from shiftreg.pipelines.families.base import FamilyPipeline
from shiftreg.pipelines.load import load_text_side

PROMPTS = ["a dog", "", "a cat and a dog", "a house by night", "a tree", "a dog"]


def refuse() -> FamilyPipeline:
    raise AssertionError("the text encoders are loaded, and all is known")


@pytest.fixture(scope="module")
def encoder_of(base: Path) -> Callable[[EmbeddingCache | None], PromptEncoder]:
    family, text_side = find_family(base), family_of(load_text_side(base))

    def make(cache: EmbeddingCache | None) -> PromptEncoder:
        return PromptEncoder(family, lambda: text_side, (cache, "space") if cache else None)

    return make


Maker = Callable[[EmbeddingCache | None], PromptEncoder]


def test_what_was_encoded_before_needs_no_text_encoder(
    tmp_path: Path, base: Path, encoder_of: Maker
) -> None:
    cache = EmbeddingCache(tmp_path / "new" / "prompts.sqlite")
    embeds = pipelines.encode_prompts(encoder_of(cache), PROMPTS)
    again = PromptEncoder(find_family(base), refuse, (cache, "space"))
    assert torch.equal(pipelines.encode_prompts(again, PROMPTS), embeds)
    assert pipelines.fitting(again, ["a dog"]) == [True]
    assert pipelines.last_positions(again, PROMPTS) == pipelines.last_positions(
        encoder_of(None), PROMPTS
    )


def test_other_encoders_have_embeddings_of_their_own(
    tmp_path: Path, base: Path, encoder_of: Maker
) -> None:
    cache = EmbeddingCache(tmp_path / "prompts.sqlite")
    pipelines.encode_prompts(encoder_of(cache), PROMPTS)
    other = PromptEncoder(find_family(base), refuse, (cache, "another space"))
    with pytest.raises(AssertionError):
        pipelines.encode_prompts(other, PROMPTS)


def test_an_embedding_does_not_depend_on_what_is_encoded_beside_it(encoder_of: Maker) -> None:
    together = pipelines.encode_prompts(encoder_of(None), PROMPTS)
    for prompt, embeds in zip(PROMPTS, together, strict=True):
        assert torch.equal(pipelines.encode_prompts(encoder_of(None), [prompt])[0], embeds)
    backwards = pipelines.encode_prompts(encoder_of(None), PROMPTS[::-1])
    assert torch.equal(backwards.flip(0), together)


def test_the_text_side_encodes_as_the_whole_pipeline_does(base: Path, encoder_of: Maker) -> None:
    whole = pipelines.encode_prompts(pipelines.load_pipeline(base), PROMPTS)
    assert torch.equal(pipelines.encode_prompts(encoder_of(None), PROMPTS), whole)


def test_a_prompt_that_is_too_long_is_refused_also_from_the_cache(
    tmp_path: Path, encoder_of: Maker
) -> None:
    cache = EmbeddingCache(tmp_path / "prompts.sqlite")
    long = "a dog " * 200
    for _ in range(2):
        assert pipelines.fitting(encoder_of(cache), [long, "a dog"]) == [False, True]
        with pytest.raises(InvalidInputError, match="Shorten it"):
            pipelines.encode_prompts(encoder_of(cache), ["a dog", long])


def some(count: int = 1) -> dict[str, EncodedPrompt]:
    return {
        f"prompt {i}": EncodedPrompt([[1, i, 2]], torch.full((3, 4), float(i)))
        for i in range(count)
    }


@pytest.mark.parametrize("column", ["checksum", "tokens", "shape", "embeds"])
def test_a_changed_entry_is_as_good_as_none(tmp_path: Path, column: str) -> None:
    cache = EmbeddingCache(tmp_path / "prompts.sqlite")
    cache.write("space", some(2))
    with closing(sqlite3.connect(tmp_path / "prompts.sqlite")) as database, database:
        database.execute(f"UPDATE prompts SET {column} = x'00' WHERE tokens LIKE '%1, 0%'")
    assert list(cache.read("space", some(2))) == ["prompt 1"]


def test_a_file_that_is_not_a_cache_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "prompts.sqlite"
    path.write_bytes(b"not a database, however long it may be" * 100)
    cache = EmbeddingCache(path)
    assert cache.read("space", ["a"]) == {}
    cache.write("space", some())
    assert list(cache.read("space", some())) == ["prompt 0"]


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(small_disk: Path) -> None:
    cache = EmbeddingCache(small_disk / "prompts.sqlite")
    big = {"big": EncodedPrompt([[1, 2]], torch.zeros(1000, 100))}
    cache.write("space", big)
    assert cache.read("space", big) == {}


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "prompts.sqlite"
    cache = EmbeddingCache(path, limit=48 * 20)  # an embedding takes 48 bytes
    cache.write("space", some(20))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE prompts SET used = used - 7200")
    assert len(cache.read("space", ["prompt 3", "prompt 7"])) == 2
    cache.write("space", {"new": EncodedPrompt([[1]], torch.zeros(3, 4))})
    kept = cache.read("space", [*some(20), "new"])
    assert {"prompt 3", "prompt 7", "new"} <= kept.keys()
    assert len(kept) < 20


def write_many(path: Path, number: int) -> None:
    """Writes and reads as one of several processes."""
    cache = EmbeddingCache(path)
    for i in range(20):
        own = {f"{number} {i}": EncodedPrompt([[number]], torch.full((3, 4), float(number)))}
        cache.write("space", own)
        assert cache.read("space", own).keys() == own.keys()


def test_several_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.sqlite"
    forked = multiprocessing.get_context("fork")
    workers = [forked.Process(target=write_many, args=(path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    names = [f"{number} {i}" for number in range(3) for i in range(20)]
    assert len(EmbeddingCache(path).read("space", names)) == len(names)


@given(
    st.dictionaries(st.text(), st.lists(st.lists(st.integers(0, 2**31), max_size=5), max_size=2)),
    st.data(),
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    tokens: dict[str, list[list[int]]],
    data: st.DataObject,
) -> None:
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache") / "prompts.sqlite")
    entries = {
        prompt: EncodedPrompt(ids, data.draw(st.none() | st.just(torch.randn(2, 3))))
        for prompt, ids in tokens.items()
    }
    cache.write("space", entries)
    read = cache.read("space", entries)
    assert read.keys() == entries.keys()
    for prompt, entry in entries.items():
        assert read[prompt].tokens == entry.tokens
        if entry.embeds is None:
            assert read[prompt].embeds is None
        else:
            assert torch.equal(read[prompt].embeds, entry.embeds)
