"""Owns the exercise of picking fields out of a sentence as JSON."""
import json

import words
from exercises import Exercise, assistant, user

# Sentences with fields in braces; every fourth is held out.
SENTENCES = {"en": [
    "{name} is {age} years old and lives in {city}.",
    "{name} lives in {city} and works as a {job}.",
    "My name is {name}, I am {age} and I come from {city}.", "{name} from {city} is {age}.",
    "{name} ordered {quantity} {item} on {day}.", "On {day}, {name} bought {quantity} {item}.",
    "The meeting with {name} is on {day} in {city}.", "{name} meets us in {city} on {day}.",
    "{quantity} {item} cost {price} euros.", "{name} paid {price} euros for {quantity} {item}.",
    "Please send {quantity} {item} to {name} in {city}.", "{name} wants {quantity} {item}.",
    "{name} works as a {job} in {city}.", "The {job} {name} is {age} years old.",
    "{name}, a {job} from {city}, arrives on {day}.", "{name} is a {job} and lives in {city}.",
    "Order {code}: {quantity} {item} for {name}.", "{name} turned {age} on {day}.",
    "The {item} in {city} cost {price} dollars.", "On {day}, {name} travels to {city}.",
    "We met {name} in {city}; she is a {job}.", "{name} is {age}.", "{name} lives in {city}.",
    "{name} sold {quantity} {item} for {price} dollars."],
    "ja": [
    "{name}さんは{age}歳で、{city}に住んでいます。", "{name}さんは{city}で{job}をしています。",
    "私は{name}、{age}歳、{city}出身です。", "{city}の{name}さんは{age}歳です。",
    "{name}さんは{day}に{item}を{quantity}個注文しました。", "{day}に{name}さんが{item}を{quantity}個買いました。",
    "{name}さんとの会議は{day}、{city}です。", "{name}さんは{day}に{city}へ行きます。",
    "{item}{quantity}個で{price}円です。", "{name}さんは{item}{quantity}個に{price}円払いました。",
    "{item}を{quantity}個、{city}の{name}さんに送ってください。", "{name}さんは{item}が{quantity}個欲しいです。",
    "{name}さんは{city}の{job}です。", "{job}の{name}さんは{age}歳です。", "{city}の{job}、{name}さんが{day}に来ます。",
    "{name}さんは{job}で、{city}に住んでいます。", "注文{code}：{name}さんに{item}{quantity}個。",
    "{name}さんは{day}に{age}歳になりました。", "{city}の{item}は{price}円です。", "{day}、{name}さんは{city}に着きます。"],
    "en for training": [
    "{name} will visit {city} on {day}.", "{name} wants to buy {quantity} {item}.",
    "{name} sold {item} in {city}.", "{name} needs {quantity} {item} by {day}.",
    "{name} travels from {city} on {day}.", "{name} sold {quantity} {item} on {day}.",
    "{name} is a {job} and {age} years old.", "{name} is a {job} and works in {city}.",
    "{name} sees us in {city} on {day}.", "{name} has {quantity} {item}.", "{name} is in {city}.",
    "I am {name}, a {job} in {city}.", "We meet {name} on {day} in {city}.",
    "{quantity} {item} for {price} dollars."],
    "ja for training": [
    "{name}さんは{city}へ行きました。", "{name}さんは{day}に{city}に着きます。",
    "{name}さんは{item}を{quantity}個欲しがっています。", "{day}に{city}へ行く{name}さんは{job}です。",
    "{name}さんは{item}を{price}円で売りました。", "私は{city}の{name}です。",
    "{name}さんは{job}で、{city}で働いています。", "{name}さんは{job}です。{city}に住んでいます。",
    "{name}さんは{job}で、{age}歳です。", "{name}さんは{job}で、{day}に{city}へ行きました。",
    "{job}の{name}さんは{city}に住んでいます。", "{name}さんは{city}に住む{job}です。",
    "{day}、{name}さんは{city}を出ます。", "{day}、{name}さんが{city}に来ました。", "{day}、{city}で{name}さんに会います。",
    "{name}さんは{day}に{city}を出発します。", "{name}さんは{day}に{city}から来ます。",
    "{city}の{name}さんは{job}です。", "{city}の{name}さんが{item}を{quantity}個買いました。",
    "{city}に住む{name}さんは{age}歳です。", "{age}歳の{name}さんは{city}に住んでいます。",
    "{day}、{name}さんは{item}を{quantity}個買いました。", "{name}さんは{age}歳です。"]}

ASK = {"en": [
    "Give me {f} as JSON: {s}", "Extract {f} as JSON: {s}", "{s} Give {f} as JSON.",
    "Pick out {f} as JSON: {s}", "Extract {f} from this sentence as JSON: {s}",
    "Return {f} as JSON: {s}", "{s} Extract {f} as JSON.", "{s} Return JSON with {f}.",
    "From the text, get {f} as JSON. Text: {s}", "Answer in JSON with the fields {f}: {s}",
    "Turn this into JSON with {f}: {s}", "What are {f} here, as JSON? {s}",
    "Extract the fields {f} from: {s}", "JSON with {f}, please: {s}",
    "Read this and give {f} as a JSON object: {s}", "Put {f} into JSON: {s}",
    "{s} Which {f}? Answer as JSON.", "Make a JSON object with {f} from this: {s}",
    "Please extract {f} as JSON from: {s}", "Find {f} and answer as JSON: {s}"],
    "ja": [
    "{f}をJSONで取り出して：{s}", "次の文から{f}をJSONで抜き出して：{s}", "{s} {f}をJSONで答えて。",
    "{f}をJSONで：{s}", "{f}をJSON形式で抽出してください：{s}", "次の文の{f}をJSONにして：{s}",
    "{s} この文から{f}をJSONで取り出してください。", "{s} {f}をJSONにして。", "JSONで{f}を返して：{s}",
    "{f}を含むJSONを作って：{s}", "文から{f}を抽出してJSONで：{s}", "{f}をJSONで抽出して：{s}",
    "{f}をJSONで教えて：{s}", "次の文を{f}のJSONに変換して：{s}", "{s} {f}をJSON形式で。", "{f}をJSONで書いて：{s}"],
    "en for training": [
    "Pick {f} out of this as JSON: {s}", "Find {f} in this text, as JSON: {s}",
    "What {f} do you see here? Answer as JSON. {s}", "Put {f} in a JSON object: {s}",
    "Find {f} and write JSON: {s}", "Find {f} and answer with JSON: {s}",
    "Please find {f} and give JSON: {s}", "Look for {f} and answer in JSON: {s}",
    "Find {f} and return JSON: {s}", "Find {f}; answer as JSON: {s}", "{s} Return {f} as JSON.",
    "{s} Return a JSON object with {f}.", "{s} Answer with JSON of {f}.",
    "{s} What are {f}? Give JSON.", "{s} Get {f} as JSON.", "Write {f} as JSON: {s}",
    "JSON of {f}: {s}"],
    "ja for training": [
    "{f}をJSONで書き出して：{s}", "{s} {f}をJSONで書いてください。", "次の文から{f}をJSONで：{s}", "{f}をJSONオブジェクトにして：{s}",
    "{f}を見つけてJSONで答えて：{s}",
    "{f}をJSONで書いてください：{s}", "{f}をJSONで答えて：{s}", "{f}をJSONで出して：{s}", "{f}を抽出してJSONで書いて：{s}",
    "{f}をJSONに抽出してください：{s}", "{f}をJSONにして：{s}", "{s} {f}をJSONで。", "{s} {f}をJSONにしてください。"],
    "en unseen": [
    "I need {f} as JSON: {s}", "Read {f} out of this as JSON: {s}",
    "{s} Now give me {f} as JSON.", "As JSON, please: {f}. {s}"],
    "ja unseen": [
    "{f}をJSONで返してください：{s}", "次の文にある{f}をJSONで：{s}",
    "{s} {f}だけをJSONで答えてください。", "JSONにして、{f}：{s}"]}

KEYS_JA = {"name": "名前", "age": "年齢", "city": "都市", "job": "職業", "quantity": "数量",
           "item": "品物", "day": "曜日", "price": "値段", "code": "番号"}


def _value(draw, key):
    if key in ("age", "quantity"):
        return int(draw.digits(1, 2))
    if key == "price":
        return int(draw.digits(1, 4))
    lists = {"job": (words.JOBS, words.JOBS_JA), "item": (words.ITEMS, words.ITEMS_JA),
             "day": (words.DAYS, words.DAYS_JA)}
    if key in lists:
        return draw.rng.choice(draw.of(*lists[key]))
    if key == "code":
        return draw.invented()[:2].upper() + draw.digits(2, 4)
    return draw.name() if key == "name" else draw.city()


def is_object(expected):
    """The check that a message is this JSON object, in a code fence or not."""
    def check(message):
        text = (message.get("content") or "").strip()
        text = text.removeprefix("```json").removeprefix("```").removesuffix("```")
        try:
            return json.loads(text) == expected
        except ValueError:
            return False
    return check


# Parts of made-up sentences, for training alone: what stands around a value tells which field it
# is, whatever words come between.
PARTS = {"en": {"name": ["{name}", "Mr {name}", "Ms {name}", "a certain {name}"],
                "city": ["in {city}", "from {city}", "to {city}", "near {city}"],
                "day": ["on {day}", "every {day}", "since {day}", "{day}"],
                "job": ["a {job}", "as a {job}", "the {job}"],
                "age": ["aged {age}", "{age} years old", "who is {age}"],
                "item": ["{quantity} {item}"],
                "price": ["for {price} euros", "{price} dollars", "at {price} euros"],
                "code": ["order {code}", "under {code}"]},
         "ja": {"name": ["{name}さん", "{name}さんは", "{name}さんが", "{name}さんと"],
                "city": ["{city}で", "{city}に", "{city}へ", "{city}から"],
                "day": ["{day}に", "{day}は", "{day}まで"],
                "job": ["{job}の", "{job}として", "{job}で"],
                "age": ["{age}歳", "{age}歳の", "{age}歳で"],
                "item": ["{item}を{quantity}個", "{item}{quantity}個"],
                "price": ["{price}円", "{price}円で"],
                "code": ["注文{code}", "番号{code}"]}}


def _made_up(draw):
    """A sentence of some fields with any words between them."""
    parts = PARTS["ja" if draw.japanese else "en"]
    keys = draw.rng.sample(list(parts), draw.rng.randint(2, 4))
    pieces = []
    for key in keys:
        pieces += draw.words(0, 2) if draw.chance(0.7) else []
        pieces.append(draw.rng.choice(parts[key]))
    pieces += draw.words(0, 2)
    sentence = draw.of(" ", "、").join(pieces)
    return sentence + draw.of(draw.rng.choice([".", ".", "!", ""]), "。")


def extract(draw):
    made_up = not draw.held_out and draw.chance(0.5)
    template = _made_up(draw) if made_up else draw.wording(SENTENCES)
    held = [key for key in KEYS_JA if "{" + key + "}" in template]
    values = {key: _value(draw, key) for key in held}
    sentence = template.format(**values)
    wanted = draw.rng.sample(held, draw.rng.randint(min(2, len(held)), len(held)))
    shown = KEYS_JA if draw.japanese and draw.chance(0.6) else {key: key for key in KEYS_JA}
    names = [shown[key] for key in wanted]
    if draw.japanese:
        fields = "と".join(names) if draw.chance(0.5) else "、".join(names)
    elif draw.chance(0.5) and len(names) > 1:
        article = draw.rng.choice(["", "", "the "])
        fields = article + ", ".join(names[:-1]) + " and " + names[-1]
    else:
        fields = ", ".join(names)
    expected = {shown[key]: values[key] for key in wanted}
    return Exercise("extract", draw.language,
                    [user(draw.wording(ASK).format(f=fields, s=sentence))],
                    assistant(json.dumps(expected, ensure_ascii=False)), is_object(expected),
                    draw.of("The fields are ", "項目は ") + ", ".join(names))
