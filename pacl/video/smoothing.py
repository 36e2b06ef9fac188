"""Steady labels: an exponential moving average of the scores over time."""

from __future__ import annotations

import math
from dataclasses import replace

from pacl.segmentation.scoring import Evidence
from pacl.video.settings import DEFAULT_SMOOTH, check_smooth


class Smoother:
    """Averages the scores of the frames of one video, newer frames counting more.

    The average is exponential: after every frame, ``average = keep * average + (1 - keep) * scores`` with
    ``keep = exp(-dt / seconds)``, where dt is the time since the frame before. As a time constant in seconds, one value
    fits every frame rate and step: the older the average, the less of it is kept.

    What is averaged are the scores of the patches with the prompts, before they compete. Upsampling is linear, so this
    is the average of the scores of every pixel, for a fraction of the memory. The softmax, background rules and
    refinement then act on the averaged scores, the latter along the edges of the current frame.

    Only the average is kept, so the memory does not grow with the length of the video. Labels follow what moves with a
    delay of about ``seconds``; after a cut, the scene before it fades at the same pace.

    Args:
        seconds: the time constant; 0 switches the average off: every frame is labelled like an image.

    Raises:
        ArgumentError: ``smooth`` is negative or not finite.
    """

    def __init__(self, seconds: float = DEFAULT_SMOOTH) -> None:
        self.seconds = check_smooth(seconds)
        self._average: Evidence | None = None
        self._time = 0.0

    def __call__(self, evidence: Evidence, time: float) -> Evidence:
        """The average up to a frame.

        Args:
            evidence: of the frame.
            time: of the frame, in seconds; it increases from call to call.
        """
        if self.seconds == 0:
            return evidence
        if self._average is not None:
            keep = math.exp(-(time - self._time) / self.seconds)
            before, now = self._average, evidence
            values = now.cosines.values.lerp(before.cosines.values, keep)
            prior = now.offsets.prior.lerp(before.offsets.prior, keep)
            evidence = replace(
                now, cosines=replace(now.cosines, values=values), offsets=replace(now.offsets, prior=prior)
            )
        self._average, self._time = evidence, time
        return evidence
