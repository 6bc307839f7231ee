"""Owns the exercises of obeying a system line: the language, capitals, a closing word."""
import about
import exercises
from exercises import Exercise, assistant, says, user

LANGUAGE = {
    "en": {"en": ["Answer in English.", "Always answer in English.", "Speak English only.",
                  "I want answers in English.", "You must answer in English.", "Use English.",
                  "All answers must be in English.", "Let your answers be in English."],
           "ja": ["英語で答えてください。", "必ず英語で答えて。", "英語だけを使ってください。", "返事は英語でしてください。",
                  "答えはすべて英語で。", "英語で返事をしてください。", "英語を使ってください。", "英語でお願いします。"],
           "en for training": [
                  "Please reply in English.", "Respond in English.", "Write in English.",
                  "English only.", "Always respond in English.", "Your language is English.",
                  "Only speak English."],
           "ja for training": [
                  "英語で返してください。", "返事は英語で。", "すべて英語でお願いします。", "英語だけで答えて。", "返事は必ず英語でお願いします。",
                  "いつも英語を使って。", "英語で話してください。"]},
    "ja": {"en": ["Answer in Japanese.", "Always answer in Japanese.", "Speak Japanese only.",
                  "I want answers in Japanese.", "You must answer in Japanese.", "Use Japanese.",
                  "All answers must be in Japanese.", "Let your answers be in Japanese."],
           "ja": ["日本語で答えてください。", "必ず日本語で答えて。", "日本語だけを使ってください。", "返事は日本語でしてください。",
                  "答えはすべて日本語で。", "日本語で返事をしてください。", "日本語を使ってください。", "日本語でお願いします。"],
           "en for training": [
                  "Please reply in Japanese.", "Respond in Japanese.", "Write in Japanese.",
                  "Japanese only.", "Always respond in Japanese.", "Your language is Japanese.",
                  "Only speak Japanese."],
           "ja for training": [
                  "日本語で返してください。", "返事は日本語で。", "すべて日本語でお願いします。", "日本語だけで答えて。", "返事は必ず日本語でお願いします。",
                  "いつも日本語を使って。", "日本語で話してください。"]}}
CAPITALS = {"en": ["Answer in capital letters.", "Always answer in upper case.",
                   "Write everything in capitals.", "Reply in uppercase letters only.",
                   "Use only capital letters.", "All answers must be in upper case.",
                   "ANSWER IN CAPITALS.", "Answer in all caps.", "Respond in upper case only.",
                   "Please use capital letters in every answer.",
                   "You always shout: write in capitals.", "Your answers are in capital letters."],
            "ja": ["大文字で答えてください。", "必ず大文字で答えて。", "答えはすべて大文字で。", "英字は大文字で書いてください。",
                   "大文字だけを使ってください。", "返事は大文字でしてください。", "いつも大文字で書いて。", "大文字で返事をしてください。",
], "en for training": [
    "Write in capital letters.", "Speak in upper case.", "Use upper case in every answer.",
    "Capital letters only.", "Everything you write must be in uppercase.", "Answer in uppercase.",
    "Please answer in capital letters only.", "WRITE IN CAPITAL LETTERS.",
    "You only write in capitals.", "Reply in capitals.", "Use all caps.",
    "Your answers must be in upper case.",
], "ja for training": [
    "すべて大文字で答えてください。", "大文字だけで答えて。", "全部大文字で書いてください。", "常に大文字を使ってください。", "返事はすべて大文字で。",
    "大文字のみで返事して。", "英字はすべて大文字にしてください。", "必ず大文字を使って。", "答えは全部大文字にして。", "大文字で書くこと。",
    "大文字で返事してください。", "返事を大文字にしてください。"],
    "en unseen": [
    "Let every answer be in capitals.", "I want upper case answers.",
    "Please reply in all caps."],
    "ja unseen": [
    "答えは大文字にしてください。", "大文字の返事だけをしてください。",
    "大文字で返してください。"]}
CLOSING = {"en": ["End every answer with the word {w}.", "Always end with {w}.",
                  "Finish each answer with {w}.", "Close every reply with the word {w}.",
                  "The last word of every answer must be {w}.", "End your answers with '{w}'.",
                  "At the end of each answer, say {w}.", "Every answer ends with {w}.",
                  'Add "{w}" at the end of every answer.', "Always finish with the word {w}.",
                  "End each reply with {w}.", "Put {w} at the end of each answer."],
           "ja": ["答えの最後に必ず「{w}」と書いてください。", "最後に{w}と付けて。", "返事の終わりは必ず{w}にして。",
                  "すべての答えを「{w}」で終えてください。", "答えの最後は{w}。", "いつも最後に「{w}」と言ってください。",
                  "文末に{w}を付けてください。", "必ず{w}で終わってください。",
], "en for training": [
    "Your last word is always {w}.", "After each answer, write {w}.",
    "Say {w} after every answer.", "All answers must end with {w}.", "End with the word {w}.",
    "Write {w} at the end of every reply.", "Every reply must end with the word '{w}'.",
    "Finish with {w}.", "Close each answer with {w}.", "Each answer ends with the word {w}.",
    "Put the word {w} after every answer.",
], "ja for training": [
    "最後に「{w}」と書いて。", "答えの後に{w}と書いてください。", "返事の最後に{w}を付けてください。", "毎回最後に{w}と言って。", "どの答えも{w}で終えて。",
    "答えは「{w}」で終わること。", "最後の言葉は{w}にしてください。", "回答の終わりに必ず{w}と書いて。", "文の最後に「{w}」を付けて。",
    "常に{w}で終わってください。", "すべての答えの最後に{w}と書いて。", "すべての返事を{w}で終えて。", "すべての答えを{w}で閉じて。"],
    "en unseen": [
    "Let {w} be the last word of every answer.", "I want every answer to end with {w}.",
    "Please end all answers with {w}."],
    "ja unseen": [
    "最後の言葉は必ず「{w}」です。", "答えの終わりに「{w}」と書いてください。",
    "返事は「{w}」で終えてください。"]}

def _turns(draw, line, make, change):
    """A system line, one to three turns that obey it; the last is the one to answer."""
    made = [make(draw) for _ in range(draw.rng.choice([1, 1, 1, 2, 3]))]
    messages = [{"role": "system", "content": line}]
    for each in made:
        each.answer = assistant(change(each.answer["content"]))
    for each in made[:-1]:
        messages += [*each.messages, each.answer]
    return messages + made[-1].messages, made[-1]


def system_line(draw):
    style = draw.rng.random()
    if style < 0.3:
        wanted = draw.rng.choice(["en", "ja"])
        line = draw.wording(LANGUAGE[wanted])
        messages = [{"role": "system", "content": line}, user(about.question(draw))]
        return Exercise("system", draw.language, messages, assistant(about.TEXT[wanted]),
                        says(about.TEXT[wanted]),
                        draw.of("The system line sets the language.", "システムの指示の言語を使います。"))
    if style < 0.65:
        def capitals(d):
            if d.chance(0.2):
                return about.about(d)
            while True:
                made = d.rng.choice([exercises.repeat, exercises.reverse, exercises.sort])(d)
                if made.answer["content"].upper() != made.answer["content"] or d.japanese:
                    return made
        messages, last = _turns(draw, draw.wording(CAPITALS), capitals, str.upper)
        reason = draw.of("The system line wants capitals.", "大文字で答えます。")
    else:
        word = draw.word()
        line = draw.wording(CLOSING).format(w=word)
        messages, last = _turns(draw, line, lambda d: d.rng.choice(exercises.PLAIN)(d),
                                lambda answer: f"{answer} {word}")
        reason = draw.of(f"The last word is {word}.", f"最後は{word}です。")
    expected = last.answer["content"]
    return Exercise("system", draw.language, messages, last.answer, says(expected), reason)
