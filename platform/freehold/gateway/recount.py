"""What an engine had not said when its answer was cut off is asked of it afterwards: how many tokens a prompt has, and
the text that was relayed (surface/estimate.py has the questions). Used by relay.py, off the client's path: the client
is gone or has its error.

The request's bill stays open meanwhile. Where no answer comes within SECONDS, or too many are being counted already,
what was guessed stands: a hang-up is never free because the tokenizer is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from freehold.common.logging import get_logger
from freehold.gateway.mistakes import told
from freehold.gateway.reply import Reply
from freehold.gateway.slots import ESTIMATED, PROMPT
from freehold.gateway.surface import estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.meter import Bill
    from freehold.gateway.surface.call import Surface
    from freehold.gateway.surface.estimate import Question
    from freehold.gateway.surface.sse import Stream
    from freehold.gateway.upstream import Pool, Upstream
    from freehold.wire.records import ReplicaRecord, RouteRecord

log = get_logger(__name__)

SECONDS = 2.0
AT_ONCE = 32  # engines have other things to do
_LARGEST_ANSWER = 16 * 1024 * 1024  # /tokenize lists every token

_running: set[asyncio.Task[None]] = set()


def recount(
    *,
    pool: Pool,
    route: RouteRecord,
    replica: str,
    surface: Surface,
    body: bytes,
    stream: Stream | None,
    bill: Bill,
    guess: int,
    most: int,
    done: Callable[[], None],
) -> bool:
    """Asks the replica that had the request, else another of its endpoint; calls `done` once, when the bill's slot
    holds what could be had. False: there is nobody to ask; `done` is not called then, and the guess stands.

    Args:
        stream: what was relayed, None where nothing was: then the prompt is owed, `guess` tokens unless it is counted.
        most: tokens that the prompt can have.
    """
    if stream is None:
        bill.slot.words[PROMPT] = guess
        bill.slot.words[ESTIMATED] = 1
        bill.owed()
    known = {record.id: record for record in route.replicas}
    asked = known.get(replica) or next(iter(known.values()), None)
    if asked is None or len(_running) >= AT_ONCE:
        return False
    task = asyncio.get_running_loop().create_task(_ask_all(pool, route, asked, surface, body, stream, bill, most))
    _running.add(task)

    def ended(task: asyncio.Task[None]) -> None:
        _running.discard(task)
        done()

    task.add_done_callback(ended)
    return True


async def _ask_all(
    pool: Pool,
    route: RouteRecord,
    replica: ReplicaRecord,
    surface: Surface,
    body: bytes,
    stream: Stream | None,
    bill: Bill,
    most: int,
) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            for question in estimate.questions(surface, body, stream):
                answer = await _ask(pool, route, replica, question)
                if answer is not None:
                    estimate.take(question, answer, bill)
        bill.slot.words[PROMPT] = min(bill.slot.words[PROMPT], most)
    except (OSError, TimeoutError) as error:
        log.info("not_recounted", request=bill.event, replica=replica.id, error=repr(error))
    except Exception as error:  # noqa: BLE001 - the bill has to be settled whatever the body was
        log.error("recount_failed", request=bill.event, path=surface.path, **told(error))


async def _ask(pool: Pool, route: RouteRecord, replica: ReplicaRecord, question: Question) -> bytes | None:
    kept = pool.take(replica)
    if kept is not None:
        with contextlib.suppress(ConnectionResetError):  # it had died meanwhile
            return await _send(kept, question)
    return await _send(await pool.connect(replica, route.served_model_name), question)


async def _send(upstream: Upstream, question: Question) -> bytes | None:
    answer = Reply(_LARGEST_ANSWER)
    upstream.send(
        answer,
        b"POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (question.path, upstream.authority, len(question.body), question.body),
    )
    try:
        await answer.come()
    except asyncio.CancelledError:
        upstream.abort()
        raise
    return answer.body or None if answer.status == 200 else None
