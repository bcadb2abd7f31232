"""From messages to the one text that a model reads. Pure.

The model's control tokens (`<|im_end|>`) part one message from the next. In a message's own text they would let its
writer speak as somebody else, so there they are broken up: `< |im_end|>`.
"""

from __future__ import annotations

import re
from typing import NoReturn

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from millpond.v1 import request_pb2
from millpond_core.errors import Code, Refused

USUAL_CONTROL = r"<(?=\|[^<>\s]*\|>)"
"""How most models write theirs, the template's own or not: `<|endoftext|>`."""

TEMPLATES_OWN = re.compile(r"</?[^<>\s{}%|'\"]+>|\[/?[A-Z_]+\]")
"""Others, as templates write them: `<start_of_turn>`, `[INST]`, `</s>`."""


class WrongTemplate(ValueError):
    """The chat template cannot be used; the message says why."""


class ChatPrompt:
    """A chat template, compiled: jinja2 in a sandbox, with what Hugging Face gives to templates.

    Raises WrongTemplate.
    """

    def __init__(self, template: str) -> None:
        # Hugging Face trims both, and its templates count on it.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        try:
            self._template = environment.from_string(template, globals={"raise_exception": _refuse})
        except TemplateSyntaxError as failure:
            raise WrongTemplate(f"line {failure.lineno}: {failure.message}") from failure
        own = sorted(set(TEMPLATES_OWN.findall(template)))
        patterns = [USUAL_CONTROL, *(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in own)]
        self._control = re.compile("|".join(patterns))

    def render(self, request: request_pb2.Request) -> str:
        """The prompt, up to where the answer begins. Raises Refused where the template has no place for a message."""
        messages = [
            {"role": message.role, "content": self._control.sub(r"\g<0> ", message.content)}
            for message in request.messages
        ]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True)
        except TemplateError as failure:
            raise Refused(Code.INVALID_FIELD, f"messages: not as this model takes them: {failure}") from failure


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
