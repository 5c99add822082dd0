"""Thread counts are set on purpose: on shared cores OpenMP barriers make two threads slower than one."""

from shared.settings import Settings


def limit_threads(settings: Settings) -> None:
    """Let torch use as many threads as the settings say."""
    import torch

    torch.set_num_threads(settings.torch_threads)
