"""`pack.vectors`: which encoders' vectors go into a pack, what is refused, and what stays as it was without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.further_vectors import PICTURES, SOUND, TEXT, own_encoder
from tests.media_world import pack_here, world_recipe
from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, RecipeError
from vidaudio.packs.description import PACK_FILE, PackDamaged, PackDescription, decode_pack, read_pack_file
from vidaudio.packs.plan import PackExistsError, plan_pack
from vidaudio.pipeline.build import build, pack
from vidaudio.pipeline.dry_run import dry_run
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.open import open_store
from vidaudio.stream.index import open_index


@pytest.fixture
def copied(further_corpus: Corpus, tmp_path: Path) -> Corpus:
    ignored = shutil.ignore_patterns("training", "runs")
    return open_corpus(str(shutil.copytree(further_corpus.url, tmp_path / "corpus", ignore=ignored)))


def block(corpus: Corpus, *vectors: str, name: str = "named") -> PackBlock:
    return corpus.pack.model_copy(update={"name": name, "vectors": vectors})


class TestRefused:
    def test_a_folder_that_is_not_there_and_those_that_are(self, copied):
        with pytest.raises(CorpusError, match=rf"holds no vectors of clap in embeddings/; it holds those of .*{SOUND}"):
            plan_pack(copied, block(copied, SOUND, "clap"), {"embed": own_encoder(copied)})

    @pytest.mark.parametrize("kind", [PICTURES, SOUND, TEXT])
    def test_a_folder_whose_shards_are_not_all_there(self, copied, kind):
        copied.store.remove(f"embeddings/{kind}/000001.parquet")
        named = rf"1 of {copied.shards} shards of \S+/embeddings/{kind} are not embedded yet; build first"
        for vectors in ((kind,), (own_encoder(copied), kind)):
            with pytest.raises(CorpusError, match=named):
                plan_pack(copied, block(copied, *vectors), {"embed": own_encoder(copied)})

    @pytest.mark.parametrize("name", ["../x", "Big", "a.b", "clip", "x" * 65, ".x", "a/b", ""])
    def test_a_name_that_no_member_can_bear(self, copied, name):
        with pytest.raises(CorpusError, match="cannot be packed: the name of the encoder"):
            plan_pack(copied, block(copied, name), {"embed": own_encoder(copied)})

    @pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"dimensions": 8, "input": "smells"}', None])
    def test_an_encoder_that_is_not_described(self, copied, damage):
        described = Path(copied.url, "embeddings", SOUND, "encoder.json")
        described.unlink()
        if damage is not None:
            described.write_bytes(damage)
        with pytest.raises(CorruptFileError, match=rf"embeddings/{SOUND}/encoder.json, which describes the encoder"):
            pack_here(copied, block(copied, SOUND))

    def test_another_choice_under_the_same_name(self, copied):
        pack_here(copied, block(copied, TEXT))
        for other in (block(copied, TEXT, SOUND), copied.pack.model_copy(update={"name": "named"})):
            with pytest.raises(PackExistsError, match=r"packed otherwise \(vectors: \[.*\] there, .* now\)"):
                pack_here(copied, other)

    @pytest.mark.parametrize("vectors", [(), (SOUND, SOUND), "sound"])
    def test_lists_that_are_none(self, vectors):
        with pytest.raises((RecipeError, ValueError)):
            PackBlock(vectors=vectors)


class TestChosen:
    def test_by_the_commands(self, copied, media_world, tiny_clip):
        """A further encoder is not taken for the corpus's own, by a build, its dry run or a pack."""
        recipe = world_recipe(tiny_clip)
        assert min(copied.store.folders("embeddings")) != own_encoder(copied)
        planned = dry_run(recipe, str(media_world.manifest), copied.url)
        assert (planned.pack.when, planned.pack.shards > 0) == ("now", True)
        build(recipe, str(media_world.manifest), copied.url, progress=False)
        assert [c.encoder for c in open_index(f"{copied.url}/training/default").vectors] == [own_encoder(copied)]
        assert dry_run(recipe, str(media_world.manifest), copied.url).pack.shards == 0
        pack(copied.url, block(copied, TEXT, SOUND, name="two"), progress=False)
        assert [c.encoder for c in open_index(f"{copied.url}/training/two").vectors] == [TEXT, SOUND]
        card = Path(copied.url, "training", "two", "CARD.md").read_text()
        assert f"* Vectors: {TEXT}, {SOUND}.\n" in card

    def test_the_default_is_written_nowhere_but_in_the_list_of_vectors(self, copied, built_corpus):
        pack_here(copied, copied.pack)
        new, was = (Path(c.url, "training", "default") for c in (copied, built_corpus))
        for path in was.iterdir():
            assert (new / path.name).read_bytes() == path.read_bytes()
        described = json.loads((new / PACK_FILE).read_text())
        assert "vectors" not in described["settings"]
        assert "vectors" not in json.loads(Path(built_corpus.url, "corpus.json").read_text())["recipe"]["pack"]
        assert "vectors" not in PackBlock().identity()
        assert PackBlock(vectors=(SOUND,)).identity()["vectors"] == [SOUND]


GOOD = [
    {"encoder": "own", "member": "clip.npy", "input": "frames", "dimensions": 4},
    {"encoder": "more", "member": "more.npy", "input": "text", "dimensions": 2},
]


class TestDescription:
    def test_it_is_read_as_it_was_written(self):
        made = PackDescription(PackBlock(), "p", "own", ("train-000000",), 1)
        read = decode_pack(json.dumps(json.loads(made.encode()) | {"vectors": GOOD}).encode())
        assert [column.described() for column in read.vector_columns] == GOOD
        assert json.loads(read.encode())["vectors"] == GOOD
        assert decode_pack(read.encode()) == read

    def test_an_older_one_has_the_vectors_of_its_encoder(self):
        read = decode_pack(PackDescription(PackBlock(), "p", "Own.1", ("train-000000",), 1).encode())
        assert [(c.encoder, c.member, c.input) for c in read.vector_columns] == [("Own.1", "clip.npy", "frames")]
        assert "vectors" not in json.loads(read.encode())
        sounds = PackDescription(PackBlock(), "p", "", ("train-000000",), 1, sample_rate=16_000)
        assert decode_pack(sounds.encode()).vector_columns == ()

    @pytest.mark.parametrize(
        "vectors",
        [
            None,
            [],
            {},
            [1],
            GOOD[1:],
            [GOOD[0], GOOD[0]],
            [GOOD[0] | {"encoder": "../own"}],
            [GOOD[0], GOOD[1] | {"member": "../more.npy"}],
            [GOOD[0], GOOD[1] | {"encoder": "a.b", "member": "a.b.npy"}],
            [GOOD[0], GOOD[1] | {"input": "x"}],
            [GOOD[0], GOOD[1] | {"dimensions": 1 << 40}],
            [GOOD[0], GOOD[1] | {"dimensions": True}],
            [GOOD[0], {"encoder": "more"}],
        ],
    )
    def test_vectors_that_no_pack_has_are_refused(self, vectors, tmp_path):
        described = json.loads(PackDescription(PackBlock(), "p", "own", ("train-000000",), 1).encode())
        (tmp_path / PACK_FILE).write_text(json.dumps(described | {"vectors": vectors}))
        with pytest.raises(PackDamaged, match="is no description of a pack"):
            read_pack_file(open_store(tmp_path), "")
