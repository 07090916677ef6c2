"""Lines to paste: how to call an endpoint, how to get a first one. Pure text; the API key is always a placeholder."""

from __future__ import annotations

from dataclasses import dataclass

from freehold.registry.choices import Task

KEY_VARIABLE = "FREEHOLD_API_KEY"


@dataclass(frozen=True)
class Snippet:
    """`id` is unique on its page: the copy button points at it."""

    id: str
    title: str
    text: str


def calls(*, gateway_url: str, model_name: str, task: str, chat: bool) -> list[Snippet]:
    """How to call an endpoint: curl and the OpenAI SDK, by what its model can do."""
    if task == Task.EMBED:
        path, field, call = (
            "embeddings",
            '"input": "Hello"',
            f'embeddings.create(\n    model="{model_name}",\n    input="Hello",\n)',
        )
        shown = "len(answer.data[0].embedding)"
    elif chat:
        messages = '[{"role": "user", "content": "Hello"}]'
        path, field = "chat/completions", f'"messages": {messages}'
        call = f'chat.completions.create(\n    model="{model_name}",\n    messages={messages},\n)'
        shown = "answer.choices[0].message.content"
    else:
        path, field, call = (
            "completions",
            '"prompt": "Hello"',
            f'completions.create(\n    model="{model_name}",\n    prompt="Hello",\n)',
        )
        shown = "answer.choices[0].text"
    curl = (
        f"curl {gateway_url}/v1/{path} \\\n"
        f'  -H "Authorization: Bearer ${KEY_VARIABLE}" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{model_name}",\n       {field}}}\''
    )
    sdk = (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(\n    base_url="{gateway_url}/v1",\n    api_key=os.environ["{KEY_VARIABLE}"],\n)\n'
        f"answer = client.{call}\nprint({shown})"
    )
    return [Snippet("call-curl", "curl", curl), Snippet("call-sdk", "OpenAI SDK (Python)", sdk)]


def upload(*, public_url: str, repo: str) -> Snippet:
    """How to upload a folder with Hugging Face's own client (docs: it must be told not to use Xet)."""
    text = f"{_environment(public_url, 'HF_HUB_DISABLE_XET=1')}\nhf upload {repo} ./my-model"
    return Snippet("upload", "Upload a model folder", text)


def download(*, public_url: str, repo: str, revision: str) -> Snippet:
    """How to download a revision with Hugging Face's own client; `revision` is empty for `main`."""
    wanted = f" --revision {revision}" if revision else ""
    text = f"{_environment(public_url)}\nhf download {repo}{wanted}"
    return Snippet("download", "Download it", text)


def deploy(*, public_url: str, repo: str, name: str, revision: str = "") -> Snippet:
    """How to deploy a model over the REST API; `revision` is empty for `main`."""
    pinned = f' "revision": "{revision}",' if revision else ""
    text = (
        f"curl {public_url}/api/v1/endpoints \\\n"
        f'  -H "Authorization: Bearer ${KEY_VARIABLE}" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"name": "{name}", "model": "{repo}",{pinned}\n       "billing_mode": "tokens", "replicas": 1}}\''
    )
    return Snippet("deploy", "Deploy it as an endpoint", text)


def _environment(public_url: str, *more: str) -> str:
    return f'export {" ".join([f"HF_ENDPOINT={public_url}", *more])}\nexport HF_TOKEN="${KEY_VARIABLE}"'
