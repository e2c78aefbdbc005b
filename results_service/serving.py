"""From the wire to the ledger and back: what every entrypoint does around its one line of work."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pymongo.errors import PyMongoError

from contracts.errors import CoatcheckError, NoReply, ValidationFailed
from contracts.logs import logger
from contracts.messages import Message
from results_service.batch import Request

log = logger(__name__)

M = TypeVar("M", bound=Message)

AWAY = "MongoDB did not answer; it is unknown whether the request took effect."


def decode(kind: type[M], body: object) -> M:
    """*body* as a message; raises `ValidationFailed` naming what is wrong."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        faults = "; ".join(f"{'/'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValidationFailed(f"{kind.__name__} cannot be read: {faults}") from None


def answer_one(kind: type[M], body: object, handle: Callable[[M], Any]) -> Any:
    """Decode, handle, and turn an outage of MongoDB into an error of ours."""
    message = decode(kind, body)
    try:
        return handle(message)
    except PyMongoError as error:
        raise away(error) from None


def answer_all(
    kind: type[M], requests: list[Request], handle: Callable[[list[M], list[bool]], Sequence[object]]
) -> list[Any]:
    """The same for a batch: one answer per request, in order; what cannot be read harms nobody else.

    *handle* gets the messages and, for each, whether it was delivered before.
    """
    answers: list[Any] = [None] * len(requests)
    messages: list[tuple[int, M]] = []
    for index, request in enumerate(requests):
        try:
            messages.append((index, decode(kind, request.body)))
        except CoatcheckError as error:
            answers[index] = error
    if not messages:
        return answers
    try:
        handled = handle([message for _, message in messages], [requests[index].redelivered for index, _ in messages])
    except PyMongoError as error:
        handled = [away(error)] * len(messages)
    for (index, _), answer in zip(messages, handled, strict=True):
        answers[index] = answer
    return answers


def away(error: PyMongoError) -> CoatcheckError:
    """What the caller hears when MongoDB fails."""
    log.warning(AWAY, action="ledger_away", reason=str(error)[:500])
    return NoReply(AWAY)
