"""A pruned image tower that follows the tower it was cut from, block by block, on any picture at all.

Blocks that lost hidden channels still give as many numbers as before, so each has a goal of its own (FitNets, Romero et
al. 2015, section 2.1, without a regressor). Pictures need no captions and no cached answers: the whole tower sees the
very same augmentation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.importance import ffn_sites
from edgekit.distill.clip.objective import PairObjective
from edgekit.distill.clip.pairs import PairBatch
from edgekit.distill.clip.towers import ImageTower
from edgekit.recipe.training import PairLosses


class BlocksObjective(PairObjective):
    """The squared error as a share of the leader's own variance: of the embedding, and the mean over all blocks.

    The text tower and the temperature stay as they are.
    """

    def __init__(self, student: DualEncoder, leader: ImageTower) -> None:
        super().__init__(student, PairLosses())
        self._leader = (leader.eval(),)  # not a part of what is trained and saved
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(name.startswith("image."))

    def terms(self) -> dict[str, float]:
        """The two terms."""
        return {"blocks": 1.0, "embedding": 1.0}

    def forward(self, batch: PairBatch) -> Tensor:
        pixels = batch.pixels
        if torch.is_autocast_enabled(pixels.device.type):  # in fp32 some shapes crash torch 2.13's backward pass
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        leader = self._leader[0].to(pixels.device)
        with torch.no_grad():
            goals = block_outputs(leader, pixels)
        found = block_outputs(self.student.image, pixels)
        *blocks, embedding = (share(mine, goal) for mine, goal in zip(found, goals, strict=True))
        return embedding + torch.stack(blocks).mean()


def share(mine: Tensor, goal: Tensor) -> Tensor:
    """Squared error of (B, C, H, W), (B, T, C) or (B, D) as a share of the variance of ``goal`` about channel means."""
    channels = (0, 2, 3) if goal.ndim == 4 else tuple(range(goal.ndim - 1))
    goal = goal.float()
    variance = (goal - goal.mean(channels, keepdim=True)).square().mean()
    return (mine.float() - goal).square().mean() / variance.clamp(min=1e-12)


def block_outputs(tower: ImageTower, images: Tensor) -> list[Tensor]:
    """What each block of ``ffn_sites`` says, first to last, then the embedding (B, D)."""
    found: list[Tensor] = []

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output)

    handles = [site.block.register_forward_hook(note) for site in ffn_sites(tower)]
    try:
        found.append(tower(images))
    finally:
        for handle in handles:
            handle.remove()
    return found
