"""The tiny model of the engine kit, with faults or a count."""

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


class Stumbles:
    """The tiny model, of which one call raises when it is told to."""

    def __init__(self, kit):
        self._model = copy.deepcopy(kit.model)
        self.stumbled = 0
        self._will = False

    def __getattr__(self, name):
        return getattr(self._model, name)

    def eval(self):
        return self

    def stumble(self):
        self._will = True

    def __call__(self, input_ids, **options):
        if self._will and input_ids.shape[1] > 1:  # a step of several rows
            self._will = False
            self.stumbled += 1
            raise RuntimeError("stumbled on purpose")
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
