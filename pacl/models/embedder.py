"""Patch embedders: frozen patch tokens -> vectors that are compared with text embeddings.

`PatchEmbedder` is the paper's e_v, the only part that PACL trains: a residual block in place of CLIP's visual
projection, main branch Linear-ReLU-Linear, skip branch one Linear. For ViT-B/16 that is 768->512->512 plus 768->512,
1,050,112 parameters.

`ConSE` needs no training, but works only with image towers that have a classifier. `SideBySide` combines the two, so
that training on captions complements the classifier.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from pacl.models.towers.base import Classifier

Start = Literal["clip", "paper", "conse"]
STARTS: tuple[str, ...] = get_args(Start)

ROWS = 512  # of patches that `smooth` takes at a time on a CPU
LEAST = 1 / 64  # its least temperature there: below, the weights of a token that equals the mean could all vanish


class PatchEmbedder(nn.Module):
    """Maps frozen patch tokens ``[..., W]`` into the text embedding's space ``[..., D]`` (not normalised).

    There are two initialisations. The constructor's is random (torch's), as in the paper. `start_clip` is CLIP's
    visual projection: the skip branch is the projection and the last layer of the main branch is zero, so that before
    training the results equal those of the training-free methods.

    Attributes:
        main: Linear-ReLU-Linear branch, ``W -> hidden -> D``.
        skip: linear branch, ``W -> D``.
    """

    def __init__(self, width: int, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or dim
        self.main = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.skip = nn.Linear(width, dim)

    @classmethod
    def start_clip(cls, projection: Tensor, hidden: int | None = None) -> PatchEmbedder:
        """Initialise with CLIP's visual projection ``[W, D]``."""
        width, dim = projection.shape
        embedder = cls(width, dim, hidden)
        with torch.no_grad():
            embedder.skip.weight.copy_(projection.T)
            embedder.skip.bias.zero_()
            for parameter in embedder.main[-1].parameters():
                parameter.zero_()
        return embedder

    def forward(self, tokens: Tensor) -> Tensor:
        """Frozen patch tokens ``[..., W]`` -> patch embeddings ``[..., D]``."""
        return self.main(tokens) + self.skip(tokens)


class ConSE(nn.Module):
    """Dense ConSE: the vector of a patch is the mean text embedding of the classes, weighted by class probabilities.

    ConSE (convex combination of semantic embeddings; Norouzi et al., ICLR 2014) is applied to every patch instead of
    the whole image. The mean embedding of all classes is subtracted: this common component is similar to every text,
    but to some texts much more than to others. There are no trainable parameters.

    Args:
        classifier: classifier of the image tower; it reads the last F columns of a token.
        dim: width D of the text embeddings.

    Attributes:
        embeddings: text embeddings of the K classes ``[K, D]``, unit norm; zeros until they are set. They are saved
            with the head, so that they need not be computed when it is loaded.
    """

    embeddings: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, classifier: Classifier, dim: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", classifier.weight.new_zeros(len(classifier.weight), dim))
        self.register_buffer("weight", classifier.weight.detach(), persistent=False)
        self.register_buffer("bias", classifier.bias.detach(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Frozen patch tokens ``[..., W]`` -> vectors ``[..., D]`` in the space of the texts, float32."""
        final = tokens[..., -self.weight.shape[1] :].float()
        mixed = F.linear(final, self.weight, self.bias).softmax(-1) @ self.embeddings
        return F.normalize(mixed, dim=-1) - self.embeddings.mean(dim=0)


def class_texts(classifier: Classifier) -> list[str]:
    """The text that `ConSE` encodes for each class: its first name and its definition.

    The name alone may be rare or ambiguous; ImageNet's "sorrel", for example, is a horse.
    """
    pairs = zip(classifier.names, classifier.definitions, strict=True)
    return [f"{names[0]}, {definition}" for names, definition in pairs]


class SideBySide(nn.Module):
    """Two embedders with separate spaces, whose similarities to texts are summed: ``share * s_1 + (1 - share) * s_2``.

    Their vectors are scaled by the square roots of the shares and concatenated. If texts are embedded in the same way
    (with ``nn.Identity`` for the text tower's own space), an inner product is the weighted sum of both similarities.
    Training the second embedder does not change the first one.

    Args:
        first: inputs ``[..., W]`` -> ``[..., D1]``, about unit norm; not normalised here.
        second: inputs ``[..., W]`` -> ``[..., D2]``; normalised here.
        share: weight of the first embedder, in [0, 1].
    """

    def __init__(self, first: nn.Module, second: nn.Module, share: float) -> None:
        super().__init__()
        self.first, self.second, self.share = first, second, share

    def forward(self, x: Tensor) -> Tensor:
        """``[..., W]`` -> ``[..., D1 + D2]``, float32."""
        first = self.first(x).float() * self.share**0.5
        second = F.normalize(self.second(x).float(), dim=-1) * (1 - self.share) ** 0.5
        return torch.cat([first, second], dim=-1)


def smooth(vectors: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Average patch vectors over similar patches of the same image.

    The weights are a softmax over the cosines between tokens. The mean token of the image is subtracted first, since
    what all patches have in common does not help to group them. This is attention with the tower's features as queries
    and keys.

    Args:
        vectors: ``[B, P, D]``.
        tokens: frozen tokens of the same patches ``[B, P, W]``.
        temperature: temperature of the softmax.

    Returns:
        ``[B, P, D]``, float32. Averages of unit vectors have a norm below 1.
    """
    tokens = tokens.float()
    features = F.normalize(tokens - tokens.mean(dim=1, keepdim=True), dim=-1)
    if tokens.device.type == "cpu" and temperature >= LEAST and not torch.jit.is_tracing() and not is_compiling():
        return _smooth_by_rows(vectors.float(), features, temperature)
    features = features[:, None]  # one head: ONNX needs the axis
    return F.scaled_dot_product_attention(features, features, vectors.float()[:, None], scale=1 / temperature)[:, 0]


def _smooth_by_rows(vectors: Tensor, features: Tensor, temperature: float) -> Tensor:
    """`smooth` with half of the products of features, as cosines are symmetric, and without a tensor of P x P."""
    vectors = torch.cat([vectors, vectors.new_ones(*vectors.shape[:2], 1)], dim=-1)  # the last column: sums of weights
    total = torch.zeros_like(vectors)
    for start in range(0, features.shape[1], ROWS):
        end = start + ROWS
        # exp((cos - 1) / temperature), in [0, 1]: of these rows, from the diagonal on
        shift = features.new_full((), -1 / temperature)
        weights = torch.baddbmm(shift, features[:, start:end], features[:, start:].mT, alpha=1 / temperature).exp_()
        total[:, start:end] += weights @ vectors[:, start:]
        total[:, end:] += weights[:, :, ROWS:].mT @ vectors[:, start:end]
    return total[..., :-1] / total[..., -1:]
