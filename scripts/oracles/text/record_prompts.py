"""Records what transformers' apply_chat_template renders: every published template of the package
that scripts/get-templates fetches, and SmolLM2's own, with each of conversations.py.

A rendering can hold most of a template's text, so its SHA-256 is recorded, not itself. A template
that refuses a conversation by raise_exception is recorded as "refused"; one that fails otherwise
as "failed". Renderings are left in the cache folder, for a look at one that differs.
Run: scripts/oracles/text/run record_prompts
"""

import copy
import datetime
import hashlib
import json

import gguf
import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from conversations import CONVERSATIONS
from places import CACHE, PACKAGE, RECORDS

# 2026-01-15 10:45:00 UTC.
NOW = 1768473900
BOS, EOS = "<|bos|>", "<|eos|>"


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


def with_objects(messages):
    """Arguments as objects, as users of transformers pass them."""
    messages = copy.deepcopy(messages)
    for message in messages:
        for call in message.get("tool_calls") or []:
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return messages


def render(tokenizer, source, conversation):
    arguments = {key: conversation[key] for key in ("enable_thinking",) if key in conversation}
    try:
        return tokenizer.apply_chat_template(
            with_objects(conversation["messages"]), tools=copy.deepcopy(conversation.get("tools")),
            chat_template=source, add_generation_prompt=True, tokenize=False, **arguments,
        )
    except jinja2.exceptions.TemplateError as error:
        return "refused" if type(error) is jinja2.exceptions.TemplateError else f"failed: {error!r}"
    except Exception as error:  # noqa: BLE001: whatever a template does with what it is given
        return f"failed: {error!r}"


def main():
    chat_template_utils.datetime = Clock
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=BOS, eos_token=EOS)
    sources = {path.stem: path.read_bytes().decode() for path in sorted((PACKAGE / "models/templates").glob("*.jinja"))}
    reader = gguf.GGUFReader(CACHE / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    sources["SmolLM2"] = reader.fields["tokenizer.chat_template"].contents()
    looks = CACHE / "rendered-prompts"
    looks.mkdir(exist_ok=True)
    record = {"now": NOW, "bos": BOS, "eos": EOS, "conversations": CONVERSATIONS, "templates": {}}
    for name, source in sources.items():
        rows = {}
        for title, conversation in CONVERSATIONS.items():
            text = render(tokenizer, source, conversation)
            (looks / f"{name}.{title}.txt").write_text(text, encoding="utf-8")
            if text.startswith("failed: ") or text == "refused":
                rows[title] = text.split(":")[0]
            else:
                rows[title] = hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
        digest = hashlib.sha256(source.encode("utf-8")).hexdigest()
        record["templates"][name] = {"sha256": digest, "renderings": rows}
        kinds = [row if row in ("failed", "refused") else "ok" for row in rows.values()]
        print(name, {kind: kinds.count(kind) for kind in sorted(set(kinds))})
    path = RECORDS / "prompts.json"
    path.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


main()
