"""The page of one inspection: the decision, the number of each class, and the trigger that was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from whorl.data.base import Dataset
from whorl.data.triggers import Overlay
from whorl.report.pages import render
from whorl.report.pictures import data_uri

__all__ = ["inspection_page"]

SAYINGS: Final = {
    "trojaned": "One class is easier to reach than in nearly all of the clean nets.",
    "inconclusive": "No class sticks out further than in clean nets. That is not evidence that the net is clean.",
    None: "No clean nets were at hand, so there are numbers and no verdict.",
}


def inspection_page(told: Mapping[str, Any], trigger: Overlay | None, data: Dataset) -> str:
    """One file of HTML from the document of an inspection, with the trigger of the culprit on the mean picture."""
    drawn: dict[str, str] = {}
    if trigger is not None:
        mean = data.inputs().mean(0, keepdim=True)
        pictures = {
            "on the mean picture": trigger.stamp(mean)[0],
            "mask": trigger.mask[None],
            "pattern under the mask": trigger.mask * trigger.pattern,
        }
        drawn = {name: data_uri(_enlarged(picture)) for name, picture in pictures.items()}
    return render("inspection.html.j2", told=told, saying=SAYINGS[told["decision"]], drawn=drawn)


def _enlarged(picture: torch.Tensor, least: int = 96) -> torch.Tensor:
    """Each pixel as a square of pixels, so that a picture of 8 pixels can be seen."""
    times = max(1, least // max(picture.shape[1:]))
    return picture.repeat_interleave(times, 1).repeat_interleave(times, 2)
