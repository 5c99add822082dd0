"""`make bench`: run every benchmark, one after the other, then print all figures as one table."""

import argparse
import json
import subprocess
import sys

from benchmarks.common import RESULTS, print_table

ALL = (
    "accept",
    "foreign_adapters",
    "formats",
    "hostile_clients",
    "hostile_lists",
    "ledger_full",
    "queue_tax",
    "reference_path",
    "routed",
    "fairness",
    "data_selection",
    "train_speed",
    "rebase",
    "compose",
    "defects",
    "selector_score",
    "selectors",
    "selector_goals",
    "selector_outside",
    "selector_sets",
    "selector_noise",
    "selector_peers",
    "prototypes",
    "dialogues",
    "memory",
    "mixed_batch",
    "gpu_steps",
    "vllm_peer",
    "adapter_bank",
    "constrained",
    "prefill_stall",
    "worker_start",
    "scale_sim",
    "template_tokens",
    "template_found",
    "openai_chat",
    "batches",
    "console",
    "canaries",
    "shadow",
    "drift",
    "clusters",
    "loop",
    "samplers",
    "multitask",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=ALL, help=f"of: {', '.join(ALL)}")
    parser.add_argument("--show", action="store_true", help="print what was measured before, measure nothing")
    args = parser.parse_args()
    for name in () if args.show else args.names:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
    files = [RESULTS / f"{name}.json" for name in ALL]
    found = [json.loads(file.read_text()) for file in files if file.is_file()]
    print_table([row for results in found for row in results["rows"]])


if __name__ == "__main__":
    main()
