"""The query of /v1/explain: a question that can be answered and shown, or the parameter that is wrong."""

from __future__ import annotations

import asyncio

from yarl import URL

from gatewrit.api import documents
from gatewrit.api.answer import answer_document, lines
from gatewrit.api.question import PARAMETERS, QuestionError, read_question
from gatewrit.engine.answer import NotKeptError
from unit.api_samples import DEGRADED, Source

_SOURCE = Source(DEGRADED)


def one_input(data: bytes) -> None:
    query = data.decode("latin-1").translate(dict.fromkeys(range(33)))
    given = dict(URL("/v1/explain?" + query, encoded=True).query)
    try:
        question = read_question({name: value for name, value in given.items() if name in PARAMETERS})
    except QuestionError as error:
        assert error.parameter in PARAMETERS
        assert str(error)
        return
    try:
        answer = asyncio.run(_SOURCE.explain(question))
    except NotKeptError:
        return
    assert documents.encode(answer_document(answer))
    assert not any("\n" in line for line in lines(answer))
