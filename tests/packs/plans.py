"""Plans of packs, as tests look at them."""

from __future__ import annotations

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.corpus import Corpus
from vidaudio.packs.plan import PackPlan, plan_pack
from vidaudio.pipeline.stages.embed import prepare_encoder


def planned(corpus: Corpus, **settings: object) -> PackPlan:
    block = PackBlock(**{**corpus.pack.model_dump(exclude_none=True), **settings})
    return plan_pack(corpus, block, {"embed": prepare_encoder(corpus)})


def ids(plan: PackPlan) -> set[str]:
    return {sample.clip_id for task in plan.tasks for sample in task.samples}
