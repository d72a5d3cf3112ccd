"""Summarises a text: one model request a paragraph, several under way at once, answers in reading order.

Input: `{"text": "...", "words": 25}`, `words` being the length of each summary and optional.
"""

import json
import re
from collections import deque

import wit_world
from componentize_py_types import Err, Ok
from wit_world.imports import events, llm, trace

# Below what the host allows, which is 64 where the budget `llm_requests_open` says nothing else.
IN_FLIGHT_MAX = 32


def request(paragraph: str, words: int) -> llm.Request:
    prompt = f"Summarise the text in at most {words} words. Answer with the summary only."
    messages = [
        llm.Message(llm.Role.SYSTEM, [llm.Part_Text(prompt)]),
        llm.Message(llm.Role.USER, [llm.Part_Text(paragraph)]),
    ]
    # Two tokens a word is enough for most languages, and bounds what a chatty model can cost.
    return llm.Request(messages, llm.Tier.FAST, None, 2 * words + 16, 0.0, [], [], None)


def ask_all(requests: list[llm.Request]):
    """Yields `(index, response)` as the answers arrive; the first failure is raised."""
    unsent = deque(enumerate(requests))
    waiting = []
    while unsent or waiting:
        while unsent and len(waiting) < IN_FLIGHT_MAX:
            index, body = unsent.popleft()
            waiting.append((index, llm.submit(body)))
        ready = llm.wait([pending for _, pending in waiting], None)
        # From the back, so that the positions of the others stay right.
        for position in sorted(ready, reverse=True):
            index, pending = waiting.pop(position)
            with pending:
                answer = pending.get()
            if isinstance(answer, Err):
                raise answer
            yield index, answer.value


def summarise(text: str, words: int) -> dict:
    paragraphs = [p.strip() for p in re.split(r"\n\s*\n", text) if p.strip()]
    summaries = [""] * len(paragraphs)
    usage = {"input_tokens": 0, "output_tokens": 0}
    answers = ask_all([request(p, words) for p in paragraphs])
    for done, (index, response) in enumerate(answers, start=1):
        summaries[index] = "".join(p.value for p in response.parts if isinstance(p, llm.Part_Text)).strip()
        usage["input_tokens"] += response.usage.input_tokens
        usage["output_tokens"] += response.usage.output_tokens
        events.progress(done, len(paragraphs), f"paragraph {index + 1}")
    events.log(events.Level.INFO, f"{len(paragraphs)} paragraphs, {usage['output_tokens']} tokens written")
    return {"summary": "\n\n".join(summaries), "paragraphs": len(paragraphs), "usage": usage}


def explain(error: Exception) -> str:
    return str(error.value) if isinstance(error, Err) else repr(error)


class WitWorld(wit_world.WitWorld):
    def run(self, input: str) -> str:
        # What is raised here and is not `Err` traps, and as there is no stderr to print on, nobody learns why.
        try:
            arguments = json.loads(input)
            text, words = arguments["text"], arguments.get("words", 25)
            if not isinstance(text, str) or not isinstance(words, int) or not 1 <= words <= 500:
                raise ValueError("text is a string, words is 1 to 500")
        except Exception as error:
            raise Err(f'the input must be JSON like {{"text": "...", "words": 25}}: {explain(error)}')
        try:
            with trace.start("summarise", json.dumps({"characters": len(text), "words": words})) as call:
                try:
                    output = json.dumps(summarise(text, words), ensure_ascii=False)
                except Exception as error:
                    call.finish(Err(explain(error)))
                    raise
                call.finish(Ok(output))
                return output
        except Exception as error:
            raise Err(explain(error))
