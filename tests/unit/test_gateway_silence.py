from gateway.silence import Silence


class Watch:
    """A monotonic clock by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now


def test_one_slow_call_among_answered_ones_is_no_silence():
    """Other replies since the call was sent show that the service lives."""
    watch = Watch()
    silence = Silence(watch)
    assert silence.admit()
    watch.now = 1.0
    assert silence.admit()
    silence.heard()
    watch.now = 1.8
    silence.gave_up(sent_at=0.0)
    assert silence.admit()
    assert silence.admit()


def test_in_silence_one_caller_at_a_time_asks():
    """While nothing comes back, the others are turned away at once."""
    watch = Watch()
    silence = Silence(watch)
    silence.admit()
    silence.gave_up(sent_at=0.0)
    assert silence.admit()
    assert not silence.admit()
    silence.gave_up(sent_at=1.0)
    assert silence.admit()


def test_a_reply_ends_the_silence():
    """As soon as the service answers, everybody is admitted again."""
    watch = Watch()
    silence = Silence(watch)
    silence.gave_up(sent_at=0.0)
    assert silence.admit()
    watch.now = 2.0
    silence.heard()
    assert all(silence.admit() for _ in range(3))


def test_a_question_that_was_not_sent_teaches_nothing():
    """The next caller may try instead."""
    silence = Silence(Watch())
    silence.gave_up(sent_at=0.0)
    assert silence.admit()
    silence.not_sent()
    assert silence.admit()
    assert not silence.admit()
