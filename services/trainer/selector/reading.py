"""What a candidate release's selector reads of conversations, fitted on dialogues of its validation rows."""

from services.trainer.context import SelectorContext
from services.trainer.selector.data import texts_of
from services.trainer.selector.judge import selector_scorer
from services.trainer.selector.plan import Plan
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading


def settle_reading(context: SelectorContext, plan: Plan, selector: ReleaseSelector) -> RequestReading | None:
    """Return the plan's reading; where it reads dialogues, with numbers fitted for the calibrated selector.

    Prototypes take the usual numbers: they consist of the validation rows, and would be too sure of each turn.
    """
    reading = plan.reading
    if reading is None or reading.mode != "dialogue" or selector.prototypes:
        return reading
    from services.trainer.evaluation.fit_reading import fit_reading

    context.check()
    context.report("fitting_dialogues")

    parts = selector_scorer(context).one_by_one(selector)
    return fit_reading(selector, reading, texts_of(plan.data.sets.validation), parts, context.body.settings.seed)
