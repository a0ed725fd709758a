"""Joint encoders: vectors of their models, gradients to the waveform, cached texts, and what is no joint encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vidaudio.correspondence.calibration import Calibration
from vidaudio.correspondence.model import CorrespondenceModel, ScorerConfig
from vidaudio.correspondence.normalisation import Partners
from vidaudio.correspondence.scorer import ScoredClip, Scorer, encode_windows
from vidaudio.correspondence.windows import unit
from vidaudio.encoders.clap import load_clap
from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.joint import ClapJoint, CorrespondenceJoint, JointEncoder, load_joint
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import RESNET, EncoderSpec
from vidaudio.errors import EncoderError
from vidaudio.modality_gap.base import GapData
from vidaudio.modality_gap.statistics import Standardise

RATE = 16_000


def scorer_of(dimensions: int, encoder: str) -> Scorer:
    """Return a scorer with random weights whose models' running means are those of some noise."""
    torch.manual_seed(0)
    models = [CorrespondenceModel(ScorerConfig(dimensions, dimensions=20, width=4)).train() for _ in range(2)]
    for model in models:
        model.encode_sound(sounds(4.0, 4, seed=9))
    generator = np.random.default_rng(0)
    partners = [
        Partners(
            *(unit(generator.normal(size=(5, 20))).astype(np.float32) for _ in range(2)),
            np.arange(5).astype(np.uint64),
        )
        for _ in range(2)
    ]
    calibration = Calibration(0.2, 0.1, 0.3, np.array([0.0, 1.0]), np.array([0.1, 0.9]))
    return Scorer(models, partners, calibration, None, {"encoder": encoder})


def sounds(seconds: float, count: int = 2, seed: int = 0) -> Tensor:
    """Return noise, on a tone of another pitch for each sound."""
    times, number = torch.arange(int(seconds * RATE)) / RATE, torch.arange(1.0, count + 1)[:, None]
    noise = torch.randn(count, len(times), generator=torch.Generator().manual_seed(seed))
    return 0.3 * torch.sin(2 * torch.pi * 200 * 2**number * times) + 0.05 * noise


@pytest.fixture(scope="module")
def clip_spec(tiny_clip: Path) -> EncoderSpec:
    return EncoderSpec(str(tiny_clip), None, "float32")


@pytest.fixture(scope="module")
def clip(clip_spec: EncoderSpec) -> ClipEncoder:
    encoder = load_encoder(clip_spec)
    assert isinstance(encoder, ClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def scorer_folder(clip: ClipEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Fitted on a machine of another precision of pictures.
    scorer = scorer_of(clip.dimensions, clip.name.replace("float32", "bfloat16"))
    folder = tmp_path_factory.mktemp("scorers") / "default"
    folder.mkdir()
    (folder / "scorer.safetensors").write_bytes(scorer.to_bytes())
    return folder


@pytest.fixture(scope="module", params=["clap", "correspondence"])
def joint(request: pytest.FixtureRequest, tiny_clap: Path, scorer_folder: Path, clip_spec: EncoderSpec) -> JointEncoder:
    return load_joint(str(tiny_clap if request.param == "clap" else scorer_folder), clip=clip_spec)


def test_texts_do_not_depend_on_a_trainings_autocast(tiny_clap: Path, scorer_folder: Path, clip_spec: EncoderSpec):
    for place in (tiny_clap, scorer_folder):
        expected = load_joint(str(place), clip=clip_spec).embed_texts(["low", "high"])
        asked_in_training = load_joint(str(place), clip=clip_spec)
        with torch.autocast(asked_in_training.device.type, torch.bfloat16):
            assert torch.equal(asked_in_training.embed_texts(["low", "high"]), expected)


def test_vectors_have_length_1_and_their_device(joint: JointEncoder):
    heard = joint.embed_sound(sounds(1.5), RATE)
    said = joint.embed_texts(["low", "high", "low"])
    assert (heard.shape, said.shape) == ((2, joint.dimensions), (3, joint.dimensions))
    assert (heard.dtype, heard.device, said.dtype) == (torch.float32, torch.device("cpu"), torch.float32)
    for vectors in (heard, said):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    assert torch.equal(said[0], said[2])
    assert float((said[0] - said[1]).norm()) > 1e-3
    assert float((heard[0] - heard[1]).norm()) > 1e-3
    assert joint.embed_sound(sounds(1.5)[:0], RATE).shape == joint.embed_texts([]).shape == (0, joint.dimensions)


def test_a_gradient_step_on_a_sound_raises_its_similarity_to_a_text(joint: JointEncoder):
    heard, text = sounds(1.5).requires_grad_(), joint.embed_texts(["low", "high"])
    before = (joint.embed_sound(heard, RATE) * text).sum(dim=1)
    before.sum().backward()
    gradient = heard.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    with torch.no_grad():
        step = 0.02 * heard.norm(dim=1, keepdim=True) * gradient / gradient.norm(dim=1, keepdim=True)
        after = (joint.embed_sound(heard + step, RATE) * text).sum(dim=1)
    assert (after > before).all()


def test_silence_has_finite_gradients(joint: JointEncoder):
    partly = torch.cat([torch.zeros(2, RATE), sounds(1.0)], dim=1)
    for heard in (torch.zeros(1, RATE), partly, 1e-6 * partly):
        heard.requires_grad_()
        found = joint.embed_sound(heard, RATE)
        (gradient,) = torch.autograd.grad(found.sum(), heard)
        assert found.isfinite().all()
        assert gradient.isfinite().all()


def test_sound_of_another_rate_is_the_same_sound(joint: JointEncoder):
    times = torch.arange(2 * 48_000) / 48_000
    sound = 0.3 * torch.sin(2 * torch.pi * 500 * times)[None]
    at_third = joint.embed_sound(sound[:, ::3], RATE)
    assert float((at_third * joint.embed_sound(sound, 48_000)).sum()) > 0.99
    assert torch.equal(joint.embed_sound(sound[:, ::3], RATE), at_third)


def test_what_validation_asks_first_training_may_use(tiny_clap: Path, scorer_folder: Path, clip_spec: EncoderSpec):
    for place in (tiny_clap, scorer_folder):
        joint = load_joint(str(place), clip=clip_spec)
        with torch.inference_mode():
            first = joint.embed_texts(["low", "high"]) @ joint.embed_sound(sounds(1.0), RATE).T
        heard = sounds(1.0).requires_grad_()
        found = joint.embed_texts(["low", "high"]) @ joint.embed_sound(heard, RATE).T
        found.sum().backward()
        torch.testing.assert_close(found.detach(), first)


class Counting(JointEncoder):
    """Joint encoder whose texts are their lengths, and which counts them."""

    def __init__(self) -> None:
        super().__init__(
            dimensions=1,
            temperature=1.0,
            fingerprint={},
            sample_rate=RATE,
            device=torch.device("cpu"),
        )
        self.asked: list[str] = []

    def _sound_vectors(self, sound: Tensor) -> Tensor:
        return sound[:, :1]

    def _text_vectors(self, texts: Sequence[str]) -> Tensor:
        self.asked += texts
        return torch.tensor([[float(len(text))] for text in texts])

    def _move(self, device: torch.device) -> None:
        raise AssertionError("not moved here")


def test_a_text_is_computed_once_within_the_caches_bounds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vidaudio.encoders.joint.KEPT_TEXTS", 3)
    joint = Counting()
    assert joint.embed_texts(["a", "bb", "a"]).flatten().tolist() == [1, 2, 1]
    assert joint.embed_texts(["bb", "ccc", "a"]).flatten().tolist() == [2, 3, 1]
    assert joint.asked == ["a", "bb", "ccc"]
    # More new texts than are kept, and one that the cache drops for them.
    wanted = ["dddd", "eeeee", "ffffff", "a"]
    assert joint.embed_texts(wanted).flatten().tolist() == [4, 5, 6, 1]
    assert joint.asked == ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
    joint.embed_texts(["bb"])
    assert joint.asked[6:] == ["bb"]


def test_a_clap_is_its_own_vectors(tiny_clap: Path):
    clap = load_clap(str(tiny_clap))
    joint = load_joint(str(tiny_clap))
    assert isinstance(joint, ClapJoint)
    heard = sounds(1.0)
    torch.testing.assert_close(joint.embed_sound(heard, RATE), clap.embed_audio_at(heard, RATE), atol=1e-5, rtol=0)
    texts = ["low", "a sound of high"]
    torch.testing.assert_close(joint.embed_texts(texts), clap.embed_text(texts), atol=1e-5, rtol=0)
    assert joint.temperature == clap.temperature
    assert joint.fingerprint == {"joint": "clap", **clap.fingerprint}


@pytest.mark.parametrize("seconds", [0.5, 4.0, 8.5, 9.3])
def test_a_scorers_sound_is_its_own_vector_of_the_whole_sound(
    scorer_folder: Path, clip_spec: EncoderSpec, seconds: float
):
    joint = load_joint(str(scorer_folder / "scorer.safetensors"), clip=clip_spec)
    scorer = Scorer.from_file(str(scorer_folder / "scorer.safetensors"))
    samples = (sounds(seconds, 1)[0] * 2**15).round().short().numpy()
    windows = encode_windows(scorer.models[0], ScoredClip(samples, 0.0, [], np.zeros((0, 32)), 0))
    found = joint.embed_sound(torch.from_numpy(samples)[None] / 2**15, RATE)[0]
    np.testing.assert_allclose(found, unit(windows.mean(axis=0)), atol=1e-5)


def test_a_scorers_texts_pass_its_layer_of_pictures(scorer_folder: Path, clip: ClipEncoder, clip_spec: EncoderSpec):
    joint = load_joint(str(scorer_folder), clip=clip_spec)
    model = Scorer.from_file(str(scorer_folder / "scorer.safetensors")).models[0]
    texts = [f"text {number}" for number in range(70)]
    raw = torch.from_numpy(clip.embed_texts(texts))
    expected = model.encode_pictures(normalize(raw, dim=1))
    torch.testing.assert_close(joint.embed_texts(texts), expected, atol=1e-5, rtol=0)
    assert joint.temperature == pytest.approx(1 / 0.07)
    facts = joint.fingerprint
    assert (facts["joint"], facts["text_weights_sha256"], facts["gap"]) == ("correspondence", clip.weights_sha256, None)
    # A method against the modality gap changes the raw vectors first.
    data = GapData.unpaired(torch.randn(50, 32) + 2, torch.randn(50, 32), clip.weights_sha256)
    gap = Standardise.fit(data)
    mapped = load_joint(str(scorer_folder), clip=clip_spec, gap=gap)
    expected = model.encode_pictures(normalize(gap.map_texts(raw), dim=1))
    torch.testing.assert_close(mapped.embed_texts(texts), expected, atol=1e-5, rtol=0)
    assert mapped.fingerprint["gap"] == gap.hash
    other = Standardise.fit(GapData.unpaired(data.images, data.texts, "0" * 64))
    with pytest.raises(EncoderError, match="fitted to another encoder"):
        load_joint(str(scorer_folder), clip=clip_spec, gap=other)


def test_the_scorers_spectrogram_is_precise_under_autocast(scorer_folder: Path, clip_spec: EncoderSpec):
    joint, seen = load_joint(str(scorer_folder), clip=clip_spec), []
    assert isinstance(joint, CorrespondenceJoint)
    joint._model.front_end.register_forward_hook(lambda module, given, found: seen.append(found))
    with torch.autocast("cpu", torch.bfloat16):
        found = joint.embed_sound(sounds(4.0), RATE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    assert torch.equal(seen[0], joint._model.front_end(sounds(4.0)))


def test_the_model_that_was_given_stays_trainable(clip: ClipEncoder):
    model = CorrespondenceModel(ScorerConfig(clip.dimensions, dimensions=20, width=4))
    CorrespondenceJoint(model, clip, "0" * 64)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_clip_of_another_scorer_is_refused(scorer_folder: Path, clip: ClipEncoder, clip_spec: EncoderSpec, tmp_path):
    with pytest.raises(EncoderError, match=r"fitted to vectors of .*: its texts need that CLIP"):
        load_joint(str(scorer_folder))
    other = tmp_path / "scorer.safetensors"
    other.write_bytes(scorer_of(clip.dimensions, "vit-b-32-float32-01234567").to_bytes())
    with pytest.raises(EncoderError, match=r"vit-b-32-float32-01234567, and .* is another encoder"):
        load_joint(str(other), clip=clip_spec)
    with pytest.raises(EncoderError, match=r"vectors of 12 dimensions, .* have 32"):
        CorrespondenceJoint(CorrespondenceModel(ScorerConfig(12)), clip, "0" * 64)
    other.write_bytes(b"damaged")
    with pytest.raises(EncoderError, match="is no scorer, or is damaged"):
        load_joint(str(other), clip=clip_spec)


def test_an_encoder_without_texts_is_refused(scorer_folder: Path, resnet_weights: Path):
    with pytest.raises(EncoderError, match="embeds no texts"):
        load_joint(str(scorer_folder), clip=EncoderSpec(RESNET, str(resnet_weights), "float32"))


def test_what_is_no_joint_encoder_is_one_sentence(tiny_bert: Path, tmp_path: Path):
    for place in (tmp_path, tmp_path / "missing", tmp_path / "missing.safetensors"):
        with pytest.raises(EncoderError, match=r"is no joint encoder of sound and text: name a CLAP, .* or a scorer"):
            load_joint(str(place))
    with pytest.raises(EncoderError, match=r"the CLAP .* cannot be loaded"):
        load_joint(str(tiny_bert))


@pytest.mark.parametrize("form", [(RATE,), (2, 0), (1, 1, RATE)])
def test_sounds_of_another_form_are_refused(joint: JointEncoder, form: tuple[int, ...]):
    with pytest.raises(EncoderError, match=r"\[N, samples\]"):
        joint.embed_sound(torch.zeros(form), RATE)
    with pytest.raises(EncoderError, match="int16"):
        joint.embed_sound(torch.zeros(1, RATE, dtype=torch.int16), RATE)
    with pytest.raises(EncoderError, match="cannot be resampled"):
        joint.embed_sound(torch.zeros(1, RATE), 0)


def test_moving_keeps_the_vectors(joint: JointEncoder):
    heard, said = joint.embed_sound(sounds(1.0), RATE), joint.embed_texts(["low"])
    assert joint.to("cpu") is joint
    assert joint.device == torch.device("cpu")
    assert torch.equal(joint.embed_sound(sounds(1.0), RATE), heard)
    assert torch.equal(joint.embed_texts(["low"]), said)
