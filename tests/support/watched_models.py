"""The tiny model of the engine kit, with a fault or a count."""

import copy


class BreaksOn:
    """The tiny model with a fault: raises where a prompt holds the character three times in a row."""

    def __init__(self, kit, character, error=None):
        self._model = copy.deepcopy(kit.model)
        self._tokens = [kit.tokenizer.convert_tokens_to_ids(character)] * 3
        self._error = error or RuntimeError("broken on purpose")

    def __getattr__(self, name):
        return getattr(self._model, name)

    def eval(self):
        return self

    def __call__(self, input_ids, **options):
        ids = input_ids[0].tolist()
        if any(ids[n : n + 3] == self._tokens for n in range(len(ids))):
            raise self._error
        return self._model(input_ids=input_ids, **options)


class Counting:
    """The tiny model, counting the tokens that go through it."""

    def __init__(self, kit):
        self._model = copy.deepcopy(kit.model)
        self.tokens = 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def eval(self):
        return self

    def __call__(self, input_ids, **options):
        self.tokens += input_ids.numel()
        return self._model(input_ids=input_ids, **options)
