"""Ask several models the same at once and print each answer when it is there: `answers.py QUESTION MODEL...`."""

from __future__ import annotations

import asyncio
import sys

from foreman.client import AsyncClient, Completion, ForemanError, Job, NoAnswer


async def ask(client: AsyncClient, model: str, question: str) -> str:
    """The model's answer, or why there is none."""
    try:
        job: Job = await client.submit(model=model, messages=[{"role": "user", "content": question}])
        completion: Completion = await client.completion(job.job_id, timeout=3_600)
    except NoAnswer as error:
        return f"{model} has no answer: {error}"
    except ForemanError as error:
        return f"{model} was not asked ({error.code}): {error}"
    return f"{model}: {completion.text}"


async def main(question: str, models: list[str]) -> None:
    """Ask them all; foreman sees to it that each is loaded once."""
    async with AsyncClient() as client:
        for answer in asyncio.as_completed([ask(client, model, question) for model in models]):
            print(await answer)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
