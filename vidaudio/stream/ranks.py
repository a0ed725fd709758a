"""How the ranks of distributed training divide a batch: every mixture once, whatever their number."""

from __future__ import annotations

from vidaudio.errors import CorpusError


def rank_rows(global_batch: int, rank: int, world_size: int) -> range:
    """Which mixtures of a global batch a rank takes: neighbours, the first ranks one more where it does not come out.

    16 mixtures over 3 ranks are 6, 5 and 5. A loss that is a mean over a rank's own mixtures must be weighted for the
    gradients to be those of one process: `share * world_size`, since distributed training takes the mean over ranks.

    Raises:
        CorpusError: There are fewer mixtures than ranks.
    """
    if not 0 <= rank < world_size:
        raise CorpusError(f"there is no rank {rank} among {world_size}")
    if global_batch < world_size:
        raise CorpusError(f"a batch of {global_batch} cannot be divided over {world_size} ranks")
    return rank_part(global_batch, rank, world_size)


def rank_part(count: int, rank: int, world_size: int) -> range:
    """`rank_rows` of any number of mixtures: of the last batch of an evaluation some ranks may have none."""
    least, more = divmod(count, world_size)
    begin = rank * least + min(rank, more)
    return range(begin, begin + least + (rank < more))
