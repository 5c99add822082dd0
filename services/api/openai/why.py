"""Says in a sentence why a label was chosen."""

from shared.contracts.generation import SelectionResult

_BY = {
    "dialogue": "the turn says little and was read with the turns before it",
    "kept": "the conversation's label stands",
}


def why(selection: SelectionResult) -> str:
    """Return the reasons of a selection: which part decided, how sure it was, what it had to be, what came second."""
    by, best = selection.by or "the selector", selection.best_label or selection.label
    decided = _BY.get(by, f"{by} decided")
    sure = f", {selection.confidence:.2f} sure" if selection.confidence is not None else ""
    needed = f" of {selection.threshold:.2f} needed" if sure and selection.threshold is not None else ""
    second = selection.runners_up[0] if selection.runners_up else None
    before = f", before {second.label} with {second.probability:.2f}" if second else ""
    probability = f" with {selection.probability:.2f}" if selection.probability is not None else ""
    verdict = f"no label is sure enough; nearest is {best}" if selection.rejected else str(best)
    return f"{verdict}{probability}{before}: {decided}{sure}{needed}"
