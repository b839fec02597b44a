"""One thread before the first op: the order of sums depends on the number of threads."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
