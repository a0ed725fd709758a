"""What several tests need: tiny media rendered here, a tiny CLIP, a small corpus built once."""

from __future__ import annotations

import os

# Several test processes share the cores. Two that both use all of them wait for each other at every operation.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vidaudio.cli.messages import show_messages

if TYPE_CHECKING:
    from tests.media_world import MediaWorld
    from tests.s3_server import S3Server
    from vidaudio.corpus.corpus import Corpus

# Fixtures that tests of the engine and of its tasks share.
pytest_plugins = ("tests.trained",)
REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
# What `make quick` runs: pure functions and tiny files, without builds and training.
QUICK = (
    "tests/benchmarks/test_tables.py",
    "tests/compat",
    "tests/config",
    "tests/corpus/test_shard_plan.py",
    "tests/docs/test_commands.py",
    "tests/docs/test_contributing.py",
    "tests/docs/test_python_blocks.py",
    "tests/expressions",
    "tests/manifest",
    "tests/media/fetch/test_reasons.py",
    "tests/packs/test_segments.py",
    "tests/separation/test_front_end.py",
    "tests/separation/test_losses.py",
    "tests/separation/test_mixing.py",
    "tests/separation/test_overlap_add.py",
    "tests/separation/test_unet.py",
    "tests/shards/test_checksum.py",
    "tests/shards/test_commit.py",
    "tests/shards/test_store.py",
    "tests/shards/test_tar.py",
    "tests/stream/test_interleave.py",
    "tests/stream/test_order.py",
    "tests/stream/test_ranks.py",
    "tests/stream/test_windows.py",
    "tests/test_files.py",
    "tests/test_imports.py",
    "tests/test_public_api.py",
    "tests/test_text.py",
)


@pytest.fixture(autouse=True, scope="session")
def _messages_as_at_the_command_line() -> None:
    show_messages()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `QUICK`."""
    places = [REPOSITORY / name for name in QUICK]
    for item in items:
        if any(item.path.is_relative_to(place) for place in places):
            item.add_marker(pytest.mark.quick)


# What a Dask worker of a build imports.
WORKER_MODULES = (
    "distributed",
    "vidaudio.pipeline.stages.download",
    "vidaudio.pipeline.stages.extract",
    "vidaudio.pipeline.stages.embed",
    "webdataset",
    "open_clip",
)


@pytest.fixture(scope="session")
def fork_server() -> None:
    """Fork the Dask workers of builds in the test process from one process that has imported their modules.

    A spawned worker imports PyTorch for some seconds, once a build. Builds that run as commands spawn their workers, as
    users' builds do. The fork server keeps the environment that it was started with: variables that a fixture sets
    later reach the workers through Dask's `distributed.nanny.environ`.
    """
    import dask
    import distributed.nanny  # noqa: F401 - which holds the defaults of its settings

    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items():
            patch.setenv(name, str(value))
        forkserver.set_forkserver_preload([*WORKER_MODULES])
        forkserver.ensure_running()


@pytest.fixture(scope="session", autouse=True)
def shard_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Copies of remote shards that streams make go here, and not to the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("VIDAUDIO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips and lists kept beside the checkout; tests of them are skipped where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small randomly initialised open_clip model, as a user would name a local one."""
    from tests.small_clip import write_small_clip

    return write_small_clip(tmp_path_factory.mktemp("tinyclip"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small randomly initialised BERT of a few words."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tinybert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "low", "middle", "high", "and", "very"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small randomly initialised CLAP of a few words."""
    from tests.small_clap import write_small_clap

    return write_small_clap(tmp_path_factory.mktemp("tinyclap"))


@pytest.fixture(scope="session")
def resnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of randomly initialised weights with torchvision's names, classifier included."""
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("resnet") / "resnet18.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in resnet18().state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def media_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaWorld]:
    """Rendered videos, some of them useless, listed in a manifest; two are reached over HTTP on loopback."""
    from tests.media_world import list_world, render_world
    from vidaudio.demo.serve import FolderServer

    folder = tmp_path_factory.mktemp("world")
    render_world(folder)
    with FolderServer(folder) as server:
        yield list_world(folder, server.url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server on loopback with the bucket `corpora`; the environment leads S3 clients to it."""
    from tests.s3_server import running_server

    with running_server() as server, pytest.MonkeyPatch.context() as patch:
        import dask

        for name, value in server.environment.items():
            patch.setenv(name, value)
        with dask.config.set({"distributed.nanny.environ": dict(server.environment)}):
            yield server


@pytest.fixture(scope="session")
def built_corpus(
    tmp_path_factory: pytest.TempPathFactory, media_world: MediaWorld, tiny_clip: Path, fork_server: None
) -> Corpus:
    """The rendered videos as a corpus, built by Dask and packed as `default`. Tests leave it as it is."""
    from tests.media_world import world_recipe
    from vidaudio.corpus.corpus import open_corpus
    from vidaudio.pipeline.build import build

    folder = tmp_path_factory.mktemp("built") / "corpus"
    build(world_recipe(tiny_clip), str(media_world.manifest), str(folder), progress=False)
    return open_corpus(str(folder))


@pytest.fixture(scope="session")
def packed_corpus(built_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A copy of the built corpus, for further packs."""
    from vidaudio.corpus.corpus import open_corpus

    return open_corpus(str(shutil.copytree(built_corpus.url, tmp_path_factory.mktemp("packed") / "corpus")))


@pytest.fixture(scope="session")
def packed_as(packed_corpus: Corpus) -> Callable[..., str]:
    """Packs the built corpus with other settings, each once; gives the folder."""
    from tests.media_world import pack_here
    from vidaudio.config.corpus import PackBlock

    made: dict[str, str] = {}

    def packed(name: str, **settings: object) -> str:
        if name not in made:
            own = packed_corpus.pack.model_dump(exclude_none=True)
            block = PackBlock(**{**own, "name": name, **settings})
            made[name] = pack_here(packed_corpus, block)
        return made[name]

    return packed


@pytest.fixture(scope="session")
def further_corpus(built_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A copy of the built corpus with vectors of three further encoders, for further packs."""
    from tests.further_vectors import WITHOUT_TEXT, add_vectors
    from vidaudio.corpus.corpus import open_corpus

    copied = open_corpus(str(shutil.copytree(built_corpus.url, tmp_path_factory.mktemp("further") / "corpus")))
    add_vectors(copied, without_text={WITHOUT_TEXT})
    return copied


@pytest.fixture(scope="session")
def packed_with_further(further_corpus: Corpus) -> str:
    """That corpus packed in short segments with the vectors of all four encoders; the folder."""
    from tests.further_vectors import PICTURES, SOUND, TEXT, own_encoder
    from tests.media_world import pack_here

    vectors = (SOUND, TEXT, own_encoder(further_corpus), PICTURES)
    settings = {"name": "all", "vectors": vectors, "audio": "pcm16", "max_segment_seconds": 8.0}
    return pack_here(further_corpus, further_corpus.pack.model_copy(update=settings))
