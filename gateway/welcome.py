"""What `gateway serve` says when it is up: where it listens, what is on, and what to paste."""

from __future__ import annotations

from collections.abc import Sequence

from . import __version__
from .settings import ProviderPlan
from .upstream import shown

_EXAMPLE = "demo/story"


def text(url: str, plans: Sequence[ProviderPlan], *, needs_key: bool) -> str:
    """The welcome, ready to print. `url` is where the gateway listens, without a path."""
    rows = "\n".join(_row(plan, max(len(p.name) for p in plans)) for plan in plans)
    auth = ' -H "authorization: Bearer $GATEWAY_API_KEY"' if needs_key else ""
    key = 'os.environ["GATEWAY_API_KEY"]' if needs_key else '"none"'
    return f"""
gateway {__version__} listens on {url}  (Ctrl-C ends it)

Providers
{rows}

Try it
  curl -N {url}/v1/chat/completions -H "content-type: application/json"{auth} \\
    -d '{{"model":"{_EXAMPLE}","stream":true,"messages":[{{"role":"user","content":"Hi"}}]}}'

From Python, with nothing installed
{_snippet(url, needs_key)}

With an OpenAI client
  base_url="{url}/v1", api_key={key}
"""


def _row(plan: ProviderPlan, width: int) -> str:
    if plan.off is not None:
        return f"  {plan.name:<{width}}  off  {plan.off}"
    if plan.key is not None:
        why = f"key from {plan.key.source}"
    elif plan.provider.local is not None:
        why = "no key needed: " + ", ".join(f"{plan.name}/{model}" for model in plan.provider.models)
    else:
        why = f"no key, at {shown(plan.base_url)}"
    return f"  {plan.name:<{width}}  on   {why}"


def _snippet(url: str, needs_key: bool) -> str:
    """A program of the standard library alone, so that it runs wherever it is pasted."""
    header = ', "authorization": "Bearer " + os.environ["GATEWAY_API_KEY"]' if needs_key else ""
    lines = (
        f"import json, {'os, ' if needs_key else ''}urllib.request",
        f'body = {{"model": "{_EXAMPLE}", "messages": [{{"role": "user", "content": "Hi"}}]}}',
        f'request = urllib.request.Request("{url}/v1/chat/completions", json.dumps(body).encode(),',
        f'                                 {{"content-type": "application/json"{header}}})',
        'print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])',
    )
    return "\n".join(lines)
