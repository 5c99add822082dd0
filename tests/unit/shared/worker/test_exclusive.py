"""Side by side, or alone: threads that tell each other by events what they do."""

import threading

from shared.worker.exclusive import ExclusiveGate


class Worker:
    """A thread that stays in company until it is let go."""

    def __init__(self, place):
        self.is_in = threading.Event()
        self._go = threading.Event()
        self._place = place
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with self._place:
            self.is_in.set()
            self._go.wait(10)

    def leave(self):
        self._go.set()
        self._thread.join()


def test_others_work_side_by_side():
    company = ExclusiveGate()
    both = [Worker(company.beside_others()) for _ in range(2)]
    assert all(worker.is_in.wait(10) for worker in both)
    for worker in both:
        worker.leave()


def test_who_is_alone_waits_for_those_who_work_and_keeps_those_who_come():
    company = ExclusiveGate()
    first = Worker(company.beside_others())
    assert first.is_in.wait(10)
    lonely = Worker(company.alone())
    assert not lonely.is_in.wait(0.1)
    late = Worker(company.beside_others())
    assert not late.is_in.wait(0.1)
    first.leave()
    assert lonely.is_in.wait(10)
    assert not late.is_in.wait(0.1)
    lonely.leave()
    assert late.is_in.wait(10)
    late.leave()


def test_two_that_want_to_be_alone_take_turns():
    company = ExclusiveGate()
    one = Worker(company.alone())
    assert one.is_in.wait(10)
    other = Worker(company.alone())
    assert not other.is_in.wait(0.1)
    one.leave()
    assert other.is_in.wait(10)
    other.leave()
