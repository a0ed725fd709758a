"""Loading of the networks of sound whose published weights are known here by their names."""

from __future__ import annotations

from pathlib import Path

from vidaudio.encoders.panns import Cnn14, WavegramCnn14
from vidaudio.encoders.passt import Passt
from vidaudio.encoders.sound_network import SoundNetwork
from vidaudio.encoders.vggish import Vggish
from vidaudio.encoders.weights_files import fill, read_weights
from vidaudio.errors import EncoderError

NETWORKS: tuple[type[Vggish | Cnn14 | Passt], ...] = (Vggish, WavegramCnn14, Cnn14, Passt)
# Networks that classify every frame have the names of Cnn14, and no vector of a sound.
FRAME_LEVEL = "DecisionLevel"


def load_sound_network(path: Path) -> SoundNetwork:
    """Load the published weights of VGGish, a PANN or PaSST.

    Raises:
        EncoderError: When the file cannot be read, or its weights are of another network.
    """
    tensors = read_weights(path)
    kind = next((kind for kind in NETWORKS if kind.is_of(tensors)), None)
    if kind is None or FRAME_LEVEL in path.name:
        raise EncoderError(
            f"{path} holds weights of a network that is not known here: those of VGGish, of PANNs' Cnn14 and "
            "Wavegram-Logmel-Cnn14, and of PaSST are; any other network can be given as TorchScript"
        )
    try:
        network, own = kind.of(tensors)
    except KeyError as error:
        raise EncoderError(f"{path} holds no weights of {kind.title} ({error.args[0]} is missing)") from error
    except (ValueError, IndexError) as error:
        raise EncoderError(f"{path} holds no weights of {kind.title}: {error!s}") from error
    fill(network, own, str(path), kind.title)
    return network.eval().requires_grad_(False)
