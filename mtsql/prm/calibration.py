"""Scores that mean what they say: scale and shift of a model's margins, fitted on labels."""

from collections.abc import Sequence

from mtsql.prm.form import logistic

MOST_STEPS = 100
RIDGE = 1e-3
"""Pull towards scale 1 and shift 0, in labels: margins that part the labels have no finite fit."""
LEAST_SCALE = 1e-3


def calibrated(
    margins: Sequence[float], values: Sequence[float], weights: Sequence[float]
) -> tuple[float, float]:
    """(temperature, shift) with which logistic((margin + shift) / temperature) fits the labels.

    Minimises weighted cross-entropy by Newton's method. A model whose margins say nothing, or the
    opposite, gets a temperature of 1000 at most.

    Args:
        values: of the labels, 0 to 1.
        weights: their confidence.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines" (1999); with the shift at 0
    it is temperature scaling (Guo et al., arXiv 1706.04599).
    """
    scale, offset = 1.0, 0.0
    for _ in range(MOST_STEPS):
        to_scale, to_offset = RIDGE * (scale - 1), RIDGE * offset
        aa, ab, bb = RIDGE, 0.0, RIDGE
        for margin, value, weight in zip(margins, values, weights, strict=True):
            score = logistic(scale * margin + offset)
            error, curve = weight * (score - value), weight * score * (1 - score)
            to_scale += error * margin
            to_offset += error
            aa += curve * margin * margin
            ab += curve * margin
            bb += curve
        det = aa * bb - ab * ab
        step_scale = (bb * to_scale - ab * to_offset) / det
        step_offset = (aa * to_offset - ab * to_scale) / det
        # A long step may overshoot where the curve is flat.
        limit = max(1.0, abs(step_scale), abs(step_offset))
        scale -= step_scale / limit
        offset -= step_offset / limit
        if abs(step_scale) + abs(step_offset) < 1e-9:
            break
    scale = max(scale, LEAST_SCALE)
    return 1 / scale, offset / scale
