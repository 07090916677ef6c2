"""What a customer does, over the wire and with nothing but an API key: push, deploy, call, read the bill.

Called by up.py against the demo tenant, and by end-to-end tests.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from openai import APIConnectionError, InternalServerError, NotFoundError, OpenAI, OpenAIError

# Before the import that reads it: uploads to a Hub without Xet storage (docs/hub.md).
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError


class CallFailed(Exception):
    """The platform refused or did not answer; the message is its own, for people."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as the API shows it."""

    id: str
    model: str
    phase: str
    ready: bool
    message: str

    @classmethod
    def of(cls, body: dict[str, Any]) -> Endpoint:
        """From the API's JSON. `message` is what the most telling condition says."""
        spoken = [
            f"{condition['reason']}: {condition['message']}" if condition["message"] else str(condition["reason"])
            for wanted in ("Failing", "Progressing", "Ready")
            for condition in body["conditions"]
            if condition["type"] == wanted and condition["status"] == "True"
        ]
        return cls(
            id=body["id"],
            model=body["model_name"],
            phase=body["phase"],
            ready=body["ready_replicas"] >= 1,
            message=spoken[0].split("\n")[0][:300] if spoken else "",
        )


@dataclass(frozen=True)
class UsageOfModel:
    """What one model was used, and what it costs so far."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    cost: str


class Customer:
    """One API key's view of an installation. Raises CallFailed throughout."""

    def __init__(self, *, web_url: str, gateway_url: str, api_key: str) -> None:
        self._hub = HfApi(endpoint=web_url, token=api_key)
        headers = {"Authorization": f"Bearer {api_key}"}
        self._rest = httpx.Client(base_url=f"{web_url}/api/v1", headers=headers, timeout=30, trust_env=False)
        self._inference = OpenAI(base_url=f"{gateway_url}/v1", api_key=api_key, timeout=120, max_retries=0)

    def has_model(self, repo: str) -> bool:
        """Whether `repo` exists and has a commit with files."""
        try:
            return bool(self._hub.model_info(repo).siblings)
        except RepositoryNotFoundError:
            return False
        except (HfHubHTTPError, httpx.HTTPError) as problem:
            raise CallFailed(f"The hub does not show {repo}: {problem}") from None

    def push(self, repo: str, folder: Path) -> None:
        """Uploads a folder, as `hf upload` does."""
        try:
            self._hub.create_repo(repo, exist_ok=True, private=True)
            self._hub.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload by make up")
        except (HfHubHTTPError, httpx.HTTPError) as problem:
            raise CallFailed(f"{repo} could not be uploaded: {problem}") from None

    def endpoint_named(self, name: str) -> Endpoint | None:
        """The endpoint of that name."""
        for body in self._get("/endpoints")["data"]:
            if body["name"] == name:
                return Endpoint.of(body)
        return None

    def deploy(self, name: str, model: str) -> Endpoint:
        """A new endpoint with one replica, paid for by the token."""
        body = {"name": name, "model": model, "revision": "main", "billing_mode": "tokens", "replicas": 1}
        # One key a deployment: a retry makes one endpoint, another `make up` after a deletion makes a new one.
        key = {"Idempotency-Key": f"make-up-{name}-{time.time_ns()}"}
        return Endpoint.of(self._json(lambda: self._rest.post("/endpoints", json=body, headers=key)))

    def endpoint(self, identifier: str) -> Endpoint:
        """As it is now."""
        return Endpoint.of(self._get(f"/endpoints/{identifier}"))

    def usage(self) -> list[UsageOfModel]:
        """This month's usage and cost, by model."""
        return [
            UsageOfModel(
                model=line["model"],
                prompt_tokens=line["prompt_tokens"],
                completion_tokens=line["completion_tokens"],
                cost=line["cost"]["display"],
            )
            for line in self._get("/usage")["data"]
        ]

    def chat(self, model: str, prompt: str, *, max_tokens: int) -> Iterator[str]:
        """A streamed answer, piece by piece."""
        try:
            stream = self._inference.chat.completions.create(
                model=model, messages=[{"role": "user", "content": prompt}], max_tokens=max_tokens, stream=True
            )
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
        except OpenAIError as problem:
            raise CallFailed(f"{model} did not answer: {problem}") from None

    def answers(self, model: str, *, embedding: bool) -> bool:
        """Whether a replica answers: after a restart the API still shows what was observed before it."""
        try:
            if embedding:
                self._inference.embeddings.create(model=model, input="ready?", encoding_format="float")
            else:
                self._inference.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "ready?"}], max_tokens=1
                )
        except (APIConnectionError, InternalServerError, NotFoundError):
            return False
        except OpenAIError as problem:
            raise CallFailed(f"{model} did not answer: {problem}") from None
        return True

    def similarity(self, model: str, first: str, second: str) -> float:
        """Cosine of the angle between two sentences' embeddings."""
        try:
            answer = self._inference.embeddings.create(model=model, input=[first, second], encoding_format="float")
        except OpenAIError as problem:
            raise CallFailed(f"{model} did not answer: {problem}") from None
        one, other = (item.embedding for item in answer.data)
        return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))

    def _get(self, path: str) -> dict[str, Any]:
        return self._json(lambda: self._rest.get(path))

    @staticmethod
    def _json(call: Callable[[], httpx.Response]) -> dict[str, Any]:
        try:
            response = call()
        except httpx.HTTPError as problem:
            raise CallFailed(f"The API does not answer: {problem}") from None
        if response.is_error:
            try:
                detail = response.json()["detail"]
            except (ValueError, KeyError):
                detail = response.text[:500]
            raise CallFailed(f"{response.request.method} {response.request.url.path}: {response.status_code} {detail}")
        body: dict[str, Any] = response.json()
        return body
