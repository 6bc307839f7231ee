"""Strings to compare tokenizers on: 2,400 and more, the same at every run. Own text throughout.

Only characters that Unicode 14 assigns: newer ones have no class in older tables, and tokenizers
differ on them by the age of their tables alone. (U+061D came with 14 and is left out, too.)
"""

import random
import unicodedata

ENGLISH = [
    "The quick brown fox doesn't jump over the lazy dog's fence; it's asleep.",
    "We've been told they'll arrive by 10:45, I'd say they're late.",
    "HELLO! You'RE SHOUTING, AREN'T YOU? I'M NOT.",
    'She said: "No -- never (really)... not even once!" and left.',
    "Prices rose 3.14% to $1,234,567.89 (up from €998.00) in Q4/2025.",
    "e-mail someone@example.org or see https://example.org/a/b?c=d&e=%20f#g",
    "x=1;y=2;z=x+y;print(z)", "snake_case camelCase PascalCase kebab-case SCREAMING_CASE",
    "don’t use ‘curly’ “quotes” — or do…", "A.B.C. vs. a.b.c., i.e. Ph.D. and U.S.A.",
]
CODE = [
    "fn main() {\n    let v: Vec<u8> = (0..16).map(|i| i * 2).collect();\n    println!(\"{v:?}\");\n}\n",
    "def f(x, *args, **kw):\n\tif x is None:\n\t\treturn {'a': [1, 2.5e-3], \"b\": x}\n\treturn f(None)\n",
    "#include <stdio.h>\nint main(void) { for (int i=0;i<10;++i) printf(\"%d\\n\", i); return 0; }\n",
    "SELECT a.id, COUNT(*) AS n FROM t1 a LEFT JOIN t2 b ON a.id=b.id WHERE n>=10 GROUP BY 1;",
    "<div class=\"x\"><p>Hi &amp; bye</p><!-- note --></div>", "{\"a\":[1,2,{\"b\":null}],\"c\":true}",
    "for f in *.txt; do sed -i 's/a\\/b/c/g' \"$f\" && echo ok || exit 1; done",
    "const g = async (u) => (await fetch(`${u}/v1?x=${1+1}`)).json() ?? {};",
    "        deeply\n            indented\n        text\n\n\n    here", "a\r\nb\r\n\r\nc\rd",
    "/* c */ // d\n#define X(a,b) ((a)>(b)?(a):(b))\n\n\n", "\\frac{a}{b} \\sum_{i=0}^{n} x_i^2 $y$",
]
SCRIPTS = [
    "吾が輩は猫ではない。名前はもうある。", "東京都千代田区で、2026年1月15日（木）に会議を開きます。",
    "カタカナとﾊﾝｶｸとひらがな、ＡＢＣ１２３、㈱①②③。", "本システムは閉域網で動作し、外部へ接続しません！",
    "今天天气很好，我们去公园散步吧。数字１２３和456。", "繁體中文測試：龍、龜、鬱。", "안녕하세요? 저는 학생입니다. 2026년!",
    "Привет, мир! Как дела? Всё хорошо — №5.", "Γειά σου Κόσμε, τι κάνεις; ΑΒΓ άέή", "مرحبا بالعالم، كيف الحال؟ ١٢٣٤",
    "שלום עולם, מה שלומך? ״טוב״", "नमस्ते दुनिया, आप कैसे हैं? १२३", "สวัสดีชาวโลก ๑๒๓ ภาษาไทยไม่มีช่องว่าง",
    "Tiếng Việt có dấu: ằ ẵ ặ ễ ộ", "İstanbul'da ışık ğüşöç İIıi", "Größe, Straße, ÄÖÜ, naïve café crème brûlée",
    "ქართული ენა", "Հայերեն լեզու", "தமிழ் மொழி", "አማርኛ ቋንቋ", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "Ǆ ǅ ǆ ŉ ﬁ ﬂ ß ẞ",
    "Ａｂｃ　Ｄｅｆ", "ⅣⅫ ½ ¾ ² ³ ₄ ①⑳", "𝐀𝐛𝒄 𝟘𝟙𝟚 𐐀𐐨 𠮷野家", "a\u0301e\u0308 o\u0302\u0323 が\u3099",
]
EMOJI = [
    "😀😁😂🤣😃", "👩‍👩‍👧‍👦 👨🏽‍💻 🏳️‍🌈", "🇯🇵🇩🇪🇧🇷", "👍🏿👍🏻", "1️⃣2️⃣#️⃣", "❤️‍🔥 ☕️ ✅ ➡️ ©️", "🎉x🎉 y🎉", "日本🗾です😊。",
]
CLASSES = [
    (0x20, 0x7F), (0xA0, 0x180), (0x370, 0x400), (0x400, 0x530), (0x590, 0x700), (0x900, 0x980),
    (0xE00, 0xE80), (0x1E00, 0x2000), (0x2000, 0x2070), (0x20A0, 0x2200), (0x2200, 0x2400),
    (0x2460, 0x2600), (0x3000, 0x3100), (0x4E00, 0x9FA6), (0xAC00, 0xD7A4), (0xFF00, 0xFFF0),
    (0x1F300, 0x1F650), (0x1D400, 0x1D800), (0x0, 0x100),
]
SPACES = [" ", "\t", "\n", "\r", "\r\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\x0b", "\x0c", "\x85"]


def assigned(code):
    return code != 0x61D and unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")


def strings():
    rng = random.Random(20260115)
    out = ["", " ", "  ", "\n", "\x00", "a", "\x7f", "\ufeffx", "\ufffd", "\u200b\u200d", "'", "''s", "'S 'Ll"]
    base = ENGLISH + CODE + SCRIPTS + EMOJI
    out += base
    out += [f"{pad}{text}{pad}" for text in base for pad in (" ", "\n", "   ")]
    out += ["".join(chr(c) for c in range(32)), "".join(chr(c) for c in range(0x7F, 0xA0))]
    out += [f"a{chr(c)}b {chr(c)}{chr(c)} c" for c in list(range(33)) + list(range(0x7F, 0xA1))]
    for n in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100):
        out += [" " * n + "x", "x" + " " * n, "\n" * n + "y", "\t" * n + "z", "q" + " " * n + "\n" + " " * n + "w"]
        out += ["a" * n, "=" * n, "1" * n, "あ" * n, "😀" * n, "-" * n + "\n", ("ab " * n), "0" * n + ".5"]
    for _ in range(220):
        out.append("".join(rng.choice(SPACES) * rng.randint(1, 4) + rng.choice(["", "a", "1", "!", "字"]) for _ in range(rng.randint(1, 8))))
    for _ in range(200):
        out.append(str(rng.randrange(10 ** rng.randint(1, 18))) + rng.choice(["", " ", ".", ",", "%", "km", "年"]) + str(rng.randrange(1000)))
    for low, high in CLASSES:
        pool = [chr(c) for c in range(low, high) if assigned(c)]
        for _ in range(25):
            out.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 40))))
    everything = [chr(c) for low, high in CLASSES for c in range(low, high) if assigned(c)]
    for _ in range(150):
        out.append("".join(rng.choice(everything) for _ in range(rng.randint(1, 30))))
    words = [word for text in base for word in text.split()]
    while len(out) < 2400:
        parts = []
        for _ in range(rng.randint(2, 14)):
            parts.append(rng.choice(words))
            parts.append(rng.choice([" ", " ", " ", "  ", "\n", ", ", ". ", "", "'", "\t"]))
        out.append("".join(parts))
    for _ in range(40):
        out.append("".join(rng.choice(base) + rng.choice(["\n", " ", "\n\n"]) for _ in range(6)))
    # Marks that tokenizers use themselves: comparing them would compare conventions, not cutting.
    return list(dict.fromkeys(text for text in out if "▁" not in text))
