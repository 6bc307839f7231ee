"""Owns the exercises of memory: a passkey in a long text, a name from an earlier turn."""
import words
from exercises import Exercise, assistant, says, user

# The words for the secret; every fourth is held out.
SECRET = {"en": ["passkey", "pass key", "secret code", "password", "access code", "secret number",
                 "magic number", "code word"],
          "ja": ["合言葉", "パスキー", "秘密の番号", "暗証番号", "パスワード", "秘密のコード", "鍵の番号", "秘密の数字",
], "en for training": [
    "secret word", "secret", "PIN", "keyword", "code", "access key", "token", "safe word",
    "wifi password",
], "ja for training": [
    "秘密の言葉", "番号", "コード", "暗号", "鍵", "秘密", "認証コード", "証明番号", "暗証コード", "秘密の数"]}
GIVE = {"en": ["The {k} is {x}.", "The {k} is {x}. Remember it.", "Remember: the {k} is {x}.",
               "Note that the {k} is {x}.", "Remember that the {k} is {x}.",
               "{x} is the {k}.", "Keep in mind that the {k} is {x}.", "The {k} here is {x}."],
        "ja": ["{k}は{x}です。", "{k}は {x} です。覚えておいてください。", "覚えておいて：{k}は{x}です。",
               "{k}は{x}だと覚えてください。", "なお、{k}は{x}です。", "{x}が{k}です。",
               "{k}：{x}", "大事なこと：{k}は{x}です。",
], "en for training": [
    "I tell you the {k}: {x}.", "Here is the {k}: {x}.", "{k}: {x}",
    "The {k} is {x}, do not forget it.", "Please remember that the {k} is {x}.",
    "By the way, the {k} is {x}.", "Please note: the {k} is {x}.", "Note: the {k} is {x}.",
], "ja for training": [
    "{k}は「{x}」です。", "ちなみに{k}は{x}です。", "{k}は{x}。忘れないでください。", "{k}は{x}と決まりました。", "ここで{k}を伝えます：{x}。",
    "{k}として{x}を使います。", "{k}は{x}だと言われました。", "大事：{k}は{x}。", "大事なのは{k}で、{x}です。"]}
ASK = {"en": ["What is the {k}?", "Tell me the {k}.", "Which {k} was given?", "What was the {k}?",
              "What {k} did I mention?", "Please tell me the {k}.", "What is the {k} in the text?",
              "Recall the {k}.", "The {k} is?", "What is the {k} again?",
              "Do you remember the {k}?", "Give me the {k}."],
       "ja": ["{k}は？", "{k}を教えて。", "{k}は何ですか？", "{k}は何でしたか？", "文中の{k}は何ですか？",
              "{k}を答えてください。", "{k}を覚えていますか？", "{k}を言って。",
], "en for training": [
    "what is the {k}", "What's the {k}?", "Repeat the {k}.", "Find the {k} in the text.",
    "Say the {k}.", "What {k} does the text give?", "What is the {k} above?",
    "I forgot the {k}. What is it?", "Can you recall the {k}?",
], "ja for training": [
    "{k}は何", "{k}を教えてください。", "上の文の{k}は？", "{k}は何だった？", "{k}を繰り返して。", "文中から{k}を探して。",
    "{k}を忘れました。何ですか？", "{k}だけを答えて。", "{k}は何でしたっけ？", "{k}を言ってください。"],
    "en unseen": [
    "The {k}, please.", "Which {k} did you read?", "Repeat the {k} for me.",
    "Write down the {k} that was given."],
    "ja unseen": [
    "{k}だけを書いてください。", "どんな{k}でしたか？", "文中の{k}は何でしたか？",
    "本文の{k}を書いて。"]}

NOUNS = """merchant clerk hunter gardener painter miller shepherd valley meadow harbour temple
cottage barn fence orchard canal tunnel factory museum statue wagon tractor ferry chapel stable
quarry mill inn lighthouse palace""".split()
ADJECTIVES = "famous tall busy empty pale golden wooden dusty curious proud sunny".split()
VERBS = """sees finds follows likes paints sells watches builds opens leaves meets carries cleans
remembers""".split()
NOUNS_JA = "先生 農家 運転手 女王 子供 馬 川 庭 窓 橋 村 市場 電車 船 森 山 王 医者 学生 家".split()
ADJECTIVES_JA = "古い 静かな 楽しい 緑の 小さい 大きい 明るい 冷たい 早い 強い 暗い".split()
VERBS_JA = "見ます 見つけます 追います 描きます 売ります 作ります 開けます 運びます 洗います 思い出します".split()


def _sentence(draw):
    """Filler, at times with a number that is not the passkey."""
    pick = draw.rng.choice
    if draw.chance(0.06):
        word = draw.word()
        return draw.of(f"Nobody knows the word {word}.", f"{word}という言葉は誰も知りません。")
    if draw.japanese:
        number = f"{draw.rng.randint(2, 99)}の" if draw.chance(0.15) else ""
        return (f"{pick(ADJECTIVES_JA)}{pick(NOUNS_JA)}は{number}{pick(ADJECTIVES_JA)}"
                f"{pick(NOUNS_JA)}を{pick(VERBS_JA)}。")
    number = f"{draw.rng.randint(2, 99)} times " if draw.chance(0.15) else ""
    return (f"The {pick(ADJECTIVES)} {pick(NOUNS)} {pick(VERBS)} the {pick(ADJECTIVES)} "
            f"{pick(NOUNS)} {number}near the {pick(NOUNS)}.")


# Tokens of a filler sentence, about, by language.
SENTENCE_TOKENS = {"en": 13, "ja": 17}


def _text(draw, tokens):
    """Filler sentences of about so many tokens; some texts say one thing over and over."""
    count = max(1, tokens // SENTENCE_TOKENS[draw.language])
    if draw.chance(0.15):
        few = [_sentence(draw) for _ in range(draw.rng.randint(1, 4))]
        return [few[i % len(few)] for i in range(count)]
    return [_sentence(draw) for _ in range(count)]


# Share, in training, of secrets that are told without any other text.
BARE_SHARE = 0.3


def passkey(draw, tokens=None):
    """`tokens`: about how long the text is."""
    rng = draw.rng
    key = draw.digits(4, 6) if draw.chance(0.8) else draw.word()
    k = draw.wording(SECRET)
    is_bare = not draw.held_out and not tokens and draw.chance(BARE_SHARE)
    text = [] if is_bare else _text(draw, tokens or int(40 * 2 ** (rng.random() * 5)))
    text.insert(rng.randint(0, len(text)), draw.wording(GIVE).format(k=k, x=key))
    glue = draw.of(" ", "")
    question = draw.wording(ASK).format(k=k)
    style = rng.random()
    if style < 0.55:
        messages = [user(glue.join(text) + rng.choice(["\n", "\n\n", " "]) + question)]
    elif style < 0.75:
        messages = [user(question + "\n" + glue.join(text))]
    else:
        messages = [user(glue.join(text)), assistant(draw.of("I will remember it.", "覚えました。")),
                    user(question)]

    return Exercise("passkey", draw.language, messages, assistant(key), says(key),
                    draw.of(f"The text says {k}.", f"文中に{k}があります。"))


def long_passkey(draw):
    """A passkey in 1,500 to 2,400 tokens."""
    return passkey(draw, draw.rng.randint(1500, 2400))


TELL = {"en": ["My name is {n}.", "I am {n}.", "Hi, I'm {n}.", "The name is {n}.",
               "You can call me {n}.", "I'm {n}.", "Call me {n}.", "You may call me {n}.",
               "Hello, I am {n}.", "Hi! My name is {n}", "My name is {n}, nice to meet you.",
               "Good morning, I am {n}."],
        "ja": ["私の名前は{n}です。", "{n}です。", "{n}といいます。", "どうも、{n}です。", "私は{n}です。",
               "はじめまして、{n}です。", "{n}と呼んでください。", "名前は{n}です。", "僕は{n}です。",
               "私は{n}といいます。", "こんにちは、私の名前は{n}です。", "{n}という者です。",
], "en for training": [
    "I am called {n}.", "my name is {n}", "Hi, I am {n}.", "{n} is my name.", "Hello! I'm {n}.",
    "Hi, my name is {n}.", "This is {n}.", "Remember my name: {n}.",
    "Good evening, my name is {n}.", "Good morning! My name is {n}.",
    "Please call me by my name, {n}.",
], "ja for training": [
    "私、{n}です。", "{n}だよ。", "僕の名前は{n}です。", "こんにちは。{n}と申します。", "名前は{n}。", "私の名前は{n}と申します。",
    "{n}と言います。", "俺は{n}。", "こんばんは、{n}です。", "おはようございます、{n}です。"]}
WHO = {"en": ["What is my name?", "Who am I?", "Do you remember my name?", "What was my name?",
              "Tell me my name.", "What's my name?", "Do you know my name?", "Say my name.",
              "what is my name", "How am I called?", "Can you tell me my name?",
              "What is my name again?"],
       "ja": ["私の名前は何ですか？", "私の名前は？", "私は誰ですか？", "私の名前を覚えていますか？", "私の名前を言って。",
              "私の名前を教えて。", "名前を覚えていますか？", "私の名前は何でしたか？", "私の名前、覚えてる？", "私は誰？",
              "僕の名前は？", "私の名前がわかりますか？",
], "en for training": [
    "what's my name", "And what is my name?", "Remind me of my name.", "Please tell me my name.",
    "Do you still know my name?", "Which name did I give?", "who am i",
    "What did I say my name was?", "What am I called?", "Tell me my name again.",
], "ja for training": [
    "私の名前は何", "名前は何でしたっけ？", "私の名前を言ってください。", "私の名前、何だっけ？", "僕の名前を覚えてる？", "私を何と呼びますか？",
    "さっき言った私の名前は？", "私の名前を答えて。", "私の名前を覚えている？", "私の名前がわかる？", "私の名前は何でした？"],
    "en unseen": [
    "Say who I am.", "I forgot my name, what is it?", "Under which name do you know me?", "My name is?"],
    "ja unseen": [
    "私の名前を答えてください。", "私の名前を忘れました。何ですか？", "私の名前を書いて。",
    "私は何という名前ですか？"]}
STRANGER = {"en": "You have not told me your name.", "ja": "お名前はまだ聞いていません。"}


def name(draw, between=None):
    """A name told, other turns, the name asked for. `between` makes an exercise for one turn."""
    answer = {"en": "Your name is {n}.", "ja": "あなたの名前は{n}です。"}[draw.language]
    messages = []
    told = draw.chance(0.92)
    n = draw.name()
    if told:
        greeting = {"en": "Nice to meet you, {n}.", "ja": "はじめまして、{n}さん。"}[draw.language]
        messages += [user(draw.wording(TELL).format(n=n)), assistant(greeting.format(n=n))]
    for _ in range(draw.rng.choice([0, 0, 1, 1, 2, 3, 4]) if told else draw.rng.randint(0, 2)):
        made = between(draw) if between else None
        if made:
            messages += [*made.messages, made.answer]
    messages.append(user(draw.wording(WHO)))
    expected = answer.format(n=n) if told else STRANGER[draw.language]

    return Exercise("name", draw.language, messages, assistant(expected), says(expected),
                    draw.of("I look for the name in what was said before.", "前の会話から名前を探します。"))
