"""An engine that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from burnish.engines.base import Prompt, Scored, Usage
from burnish.types import Completion, Sampling

Script = Callable[[Prompt, int], str]


class Scripted:
    """Answers from a function of (prompt, sample number), or from a list that is gone through in order."""

    template_hash = ""
    gives_logprobs = True
    first_token_only = False

    def __init__(self, script: Script | Sequence[str], name: str = "scripted") -> None:
        self.name, self.usage = name, Usage()
        if callable(script):
            self._script: Script = script
        else:
            answers = iter(script)
            self._script = lambda prompt, sample: next(answers)

    def too_long(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]] | None = None) -> dict[int, str]:
        """A script has room for everything."""
        return {}

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        """The script's answers; words count as tokens."""
        found = []
        for prompt in prompts:
            words = len(_text(prompt).split())
            group = [Completion(self._script(prompt, sample), prompt_tokens=words) for sample in range(n)]
            self.usage.prompt_tokens += words
            self.usage.completion_tokens += sum(len(one.text.split()) for one in group)
            self.usage.calls += 1
            found.append(group)
        return found

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        """The option that the script answers gets log-probability 0, the others -1 per word."""
        found = []
        for prompt, group in zip(prompts, options, strict=True):
            said = self._script(prompt, 0)
            found.append([Scored(0.0 if said == one else -float(len(one.split())), len(one.split())) for one in group])
            self.usage.calls += 1
        return found

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """The script's answer, word by word."""
        ((answer,),) = self.generate([prompt], sampling)
        words = answer.text.split(" ")
        for count in range(1, len(words) + 1):
            yield " ".join(words[:count])


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)
