"""Division of a batch over the ranks of distributed training: every mixture once, for any number of ranks."""

from __future__ import annotations

from vidaudio.errors import UsageError


def rank_rows(global_batch: int, rank: int, world_size: int) -> range:
    """Return the mixtures of a global batch that a rank takes: consecutive ones, with any remainder on the first ranks.

    16 mixtures over 3 ranks are 6, 5 and 5. Distributed training takes the mean of the gradients over ranks. So a loss
    that is a mean over a rank's own mixtures must be weighted with `share * world_size` to give the gradients of one
    process.

    Raises:
        UsageError: When there are fewer mixtures than ranks, or the rank does not exist.
    """
    if not 0 <= rank < world_size:
        raise UsageError(f"there is no rank {rank} among {world_size}")
    if global_batch < world_size:
        raise UsageError(f"a batch of {global_batch} cannot be divided over {world_size} ranks")
    return rank_part(global_batch, rank, world_size)


def rank_part(count: int, rank: int, world_size: int) -> range:
    """Return a rank's part of any number of mixtures; it may be empty, as in the last batch of an evaluation."""
    least, more = divmod(count, world_size)
    begin = rank * least + min(rank, more)
    return range(begin, begin + least + (rank < more))
