"""Owns how the plain exercises are asked, per language. Every fourth wording is held out.

Data alone: {x} stands for the content, {a} and {b} for numbers.
"""
import composed
from split import COMPOSED

REPEAT = {"en": [
    "Repeat: {x}", "Say exactly this: {x}", "Repeat after me: {x}", "Echo the text: {x}",
    "Write {x} again.", "Please repeat {x}.", "Say {x}.", "Can you say {x}?",
    "Copy this text: {x}", "Repeat the following: {x}", "Write this down: {x}", "Put down {x} as it is.",
    "Repeat this sentence: {x}", "Copy: {x}", "Say the words {x}.", "I say it, you repeat it: {x}",
    "Print {x}.", "Echo {x}", "Answer with {x} and nothing else.", "Reply only with {x}.",
], "ja": [
    "繰り返して：{x}", "次をそのまま書いて：{x}", "{x} と言って。", "復唱してください：{x}",
    "{x} を繰り返してください。", "次の文を写して：{x}", "そのまま返して：{x}", "{x} と答えて。",
    "次の言葉を繰り返して：{x}", "{x} をもう一度書いて。", "同じことを言って：{x}", "{x} を写してください。",
    "{x} とだけ答えて。", "{x} を復唱して。", "繰り返してください。{x}", "次の文をそのまま返してください：{x}",
], "en for training": [
    "Repeat the text {x}", "Write exactly: {x}", "Output this text: {x}",
    "Repeat what I say: {x}", "just say {x}", "Please say {x}.",
    "Return this text unchanged: {x}", "Repeat this: {x}", "repeat {x}",
    "Write the following: {x}", "Say this: {x}", "Give the same text back: {x}", "Type this: {x}",
    "Please type {x}.", "Type the text {x}", "Type the following: {x}", "Can you repeat {x}?",
    "Can you write {x}?", "Reply with {x}.", "Reply with just {x}", "Only say {x}.",
    "Answer only with {x}.", "Please only reply with {x}.", "echo {x}", "Echo: {x}",
    "Can you echo {x}?", "Echo this for me: {x}", "Please echo this: {x}", "Echo back: {x}",
    "Please type this: {x}", "Type out {x}.", "Just type {x}", "Could you say {x}?",
    "Can you say the words {x}?", "Can you type {x}?", "Could you repeat {x}?",
    "Please copy: {x}", "Please repeat this: {x}", "Please write: {x}",
    "Now type {x}.", "Type {x} for me.", "Type {x} here.", "Type {x} back.",
    "Type the words {x}.", "Type exactly {x}.", "Now echo: {x}",
    "Echo please: {x}", "Echo what I write: {x}", "Echo exactly: {x}", "echo: {x}",
    "Now say {x}.", "Please say: {x}", "Write {x}.", "Copy {x}.", "Repeat exactly {x}.",
], "ja for training": [
    "{x}と書いて。", "全部そのまま返してください：{x}", "これを繰り返して：{x}", "{x}と言ってください。", "オウム返しして：{x}",
    "次の文を繰り返してください：{x}", "そのまま出力して：{x}", "次の文を書き写してください：{x}", "{x} と答えてください。", "{x} と返事して。",
    "{x} とだけ言って。", "繰り返し：{x}",
    "{x} と返して。", "{x} と書いてください。", "文をそのまま返して：{x}", "次の文を返してください：{x}",
    "次の言葉をそのまま返してください：{x}"],
    "en unseen": [
    "Parrot this: {x}", "All I need is that you say {x}.", "Same words back, please: {x}",
    "Give me exactly these words: {x}"],
    "ja unseen": [
    "{x} と復唱してください。", "次の通りに答えて：{x}", "「そのまま」返すだけ：{x}",
    "もう一回言って：{x}"]}

REVERSE = {"en": [
    "Reverse: {x}", "Reverse the word {x}.", "Spell {x} backwards.", "Write {x} in reverse.",
    "Reverse {x}", "What is {x} backwards?", "Write {x} backwards.", "I want {x} reversed.",
    "Write the letters of {x} in reverse order.", "Reverse the string {x}.",
    "Turn {x} around, letter by letter.", "What is {x} spelled backwards?",
    "Can you reverse the word {x}?", "Reverse this word: {x}", "Backwards, please: {x}",
    "Reverse the letters: {x}", "Say {x} backwards.", "Give me {x} in reverse.",
    "Flip the letters of {x}.", "Can you write {x} backwards?",
], "ja": [
    "逆にして：{x}", "{x} を逆から書いて。", "{x} を逆順にして。", "{x} を後ろから書いてください。",
    "次の言葉を逆さまにして：{x}", "{x} を反対から読むと？", "{x} を逆さまに書いてください。", "反転して：{x}",
    "{x} の文字を逆に並べて。", "逆順：{x}", "{x} を後ろから読んで。", "{x} を逆にしてください。",
    "文字列 {x} を反転してください。", "{x} を逆さにすると？", "逆から書いて：{x}", "{x} の逆は何ですか？",
], "en for training": [
    "reverse {x}", "Reverse this: {x}", "Reverse this text: {x}",
    "Reverse the order of the letters in {x}.", "Write the word {x} backwards.",
    "How do you spell {x} backwards?", "Please write {x} from back to front.",
    "Mirror the word {x}.", "Spell this backwards: {x}", "Can you reverse {x}?",
    "How is {x} spelled in reverse?", "{x} spelled in reverse?",
    "Spelled backwards, what is {x}?",
], "ja for training": [
    "これを逆にして：{x}", "{x}を逆にして", "{x}を反対にして。", "{x}を逆さに読むと？", "文字を逆の順に書いて：{x}", "{x} を反転させて。",
    "{x} を後ろから順に書いて。", "次の単語を逆にしてください：{x}", "{x} の逆を書いて。", "{x} の逆は？", "{x} を逆にすると何ですか？"],
    "en unseen": [
    "What do I get when I flip {x}?", "{x} read from its last letter?", "Backwards {x} is what?",
    "Write {x} starting at the end."],
    "ja unseen": [
    "{x} を後ろから前に書いて。", "{x} を最後の文字から書いて。", "逆さ言葉にして：{x}",
    "{x} の文字の順番を逆にしてください。"]}

SORT_NUMBERS = {"en": [
    "Sort these numbers: {x}", "Sort: {x}", "Sort from low to high: {x}", "Put in order: {x}",
    "Put these numbers in order: {x}", "Arrange in ascending order: {x}", "Order these: {x}",
    "Can you sort these numbers? {x}", "Sort the list {x}", "Please sort: {x}",
    "Sort the numbers {x} from smallest to largest.", "Please put these in ascending order: {x}",
    "Smallest first: {x}", "Sort {x}", "Order the numbers {x}.", "Arrange these numbers: {x}",
], "ja": [
    "並べ替えて：{x}", "小さい順に並べて：{x}", "昇順にして：{x}", "小さい順に：{x}",
    "{x} を小さい順に並べ替えてください。", "次の数を並べ替えて：{x}", "数字を順番に並べて：{x}",
    "昇順に並べ替えてください：{x}", "ソートして：{x}", "{x} を昇順に並べて。", "{x} をソートしてください。",
    "順番に並べてください：{x}", "小さい数から順に書いて：{x}", "次の数字を小さい順にして：{x}",
    "{x} を順番に並べて。", "{x} を小さいほうから並べて。",
], "en for training": [
    "sort {x}", "Sort ascending: {x}", "Put these in order: {x}",
    "Sort from smallest to largest: {x}", "Lowest first: {x}", "Sort the following numbers: {x}",
    "Order from small to large: {x}", "Rank these numbers from low to high: {x}",
    "Can you sort these? {x}", "Could you put these numbers in order? {x}",
    "Please sort these numbers: {x}",
    "Arrange the numbers: {x}", "Arrange: {x}", "Arrange these: {x}", "Arrange {x} in order.",
    "Can you order these numbers? {x}", "Could you sort these? {x}", "Can you sort {x}?",
], "ja for training": [
    "数を小さい順に並べてください：{x}", "小さい順に並べ替えて：{x}", "{x} を並べ替えて。", "次の数字を昇順に：{x}", "小さいものから並べて：{x}",
    "数字をソートして：{x}", "数字を並べ替えてください：{x}",
    "{x} を小さい順に並べて。", "{x} を小さい順にして。", "{x} を小さい順にお願いします。", "{x} は小さい順だと？",
    "{x} を小さいものから順に。", "{x} を昇順に。", "{x} を昇順に並べ替えて。", "{x} を昇順にしてください。", "昇順で：{x}",
    "昇順に並べてください：{x}", "昇順で並べ替えて：{x}"],
    "en unseen": [
    "Sorted, these numbers are what? {x}", "Which is smallest, then next, and so on? {x}",
    "In growing order, please: {x}", "Numbers to sort: {x}"],
    "ja unseen": [
    "{x} を小さい数から並べてください。", "小さい順でお願い：{x}", "これらの数を昇順に：{x}",
    "次の数を小さい順に書いてください：{x}"]}

SORT_DOWN = {"en": [
    "Sort from high to low: {x}", "Sort these numbers in descending order: {x}",
    "Sort descending: {x}", "Put in descending order: {x}", "Largest first: {x}",
    "Arrange from largest to smallest: {x}", "Sort the numbers {x} in descending order.",
    "From largest to smallest, please: {x}",
], "ja": [
    "大きい順に並べて：{x}", "降順にして：{x}", "{x} を大きい順に並べ替えてください。", "大きい順に：{x}",
    "{x} を降順に並べて。", "降順に並べ替えてください：{x}", "大きい数から順に書いて：{x}",
    "次の数字を大きい順にして：{x}",
], "en for training": [
    "Sort from largest to smallest: {x}", "Descending order: {x}", "Sort down: {x}",
    "Biggest first: {x}", "Highest first: {x}", "Order from large to small: {x}",
    "Put these in descending order: {x}", "Arrange in descending order: {x}",
    "Sort {x} in descending order.", "Sort {x} from high to low.",
    "Please sort from largest to smallest: {x}",
    "Sort these numbers from largest to smallest: {x}",
    "Largest to smallest: {x}", "From high to low, please: {x}", "From high to low: {x}",
    "From biggest to smallest, please: {x}", "Descending, please: {x}", "Largest to smallest {x}",
    "Please put these from largest to smallest: {x}", "Please sort down: {x}",
], "ja for training": [
    "大きい順に並べ替えて：{x}", "{x} を大きい順に。", "大きいものから並べて：{x}", "降順にソートして：{x}", "{x} を降順にして。",
    "次の数を大きい順に並べて：{x}", "大きい順にしてください：{x}", "降順に並べて：{x}", "数字を大きい順に並べて：{x}", "次の数字を降順にして：{x}",
    "大きい順で：{x}", "大きい順：{x}", "大きい順にお願いします：{x}", "大きい順にソートして：{x}", "大きいほうから：{x}", "降順に：{x}",
    "降順で並べて：{x}", "次の数を大きい順にして：{x}", "次の数字を大きい順に：{x}", "数字を大きい順にして：{x}",
    "次の数字を大きい順に並べてください：{x}", "{x} を大きい順にして。"],
    "en unseen": [
    "Which is largest, then next, and so on? {x}", "In shrinking order, please: {x}",
    "Sort {x} with the biggest in front.", "Count down through these numbers: {x}"],
    "ja unseen": [
    "{x} を大きい数から並べてください。", "大きい順でお願い：{x}", "これらの数を降順に：{x}",
    "次の数を大きい順に書いてください：{x}"]}

SORT_WORDS = {"en": [
    "Sort these words: {x}", "Sort alphabetically: {x}", "Sort the words: {x}",
    "Put these words in alphabetical order: {x}", "Sort in alphabetical order: {x}",
    "Arrange alphabetically: {x}", "Alphabetical order, please: {x}", "Into alphabetical order: {x}",
    "Sort the words {x} by alphabet.", "Please sort these words: {x}",
    "Can you put these words in order? {x}", "In alphabetical order, please: {x}",
    "Order these words from A to Z: {x}", "Sort from A to Z: {x}",
    "Sort this list of words: {x}", "Put the words in order: {x}",
], "ja": [
    "五十音順に並べて：{x}", "次の言葉を並べ替えて：{x}", "言葉を順番に並べて：{x}", "五十音順に：{x}",
    "{x} を五十音順に並べ替えてください。", "五十音順にソートして：{x}", "単語を並べ替えて：{x}",
    "あいうえお順に並べてください：{x}", "あいうえお順に：{x}", "{x} を五十音順にして。",
    "次の単語を五十音順に並べて：{x}", "{x} をあいうえお順に並べて。", "言葉を五十音順にしてください：{x}",
    "あいうえお順に並べ替えて：{x}", "{x} を順に並べて。", "単語を五十音順にしてください：{x}",
], "en for training": [
    "Sort the following words: {x}", "sort alphabetically {x}", "Sort these alphabetically: {x}",
    "Sort the words {x}", "Put in alphabetical order: {x}", "Order alphabetically: {x}",
    "Sort by letter: {x}", "Alphabetical: {x}", "Alphabetize these words: {x}",
    "Please alphabetize: {x}", "Alphabetize the list {x}",
    "Put the words in alphabetical order: {x}", "Put the words {x} in order.",
    "Put these words in order: {x}", "Put words in order: {x}", "Put these in order by letter: {x}",
], "ja for training": [
    "次の言葉を五十音順に並べて：{x}", "五十音順で並べ替えて：{x}", "{x}を五十音順に", "言葉をあいうえお順に：{x}", "単語を順番に並べてください：{x}",
    "五十音の順に書いて：{x}", "言葉をあいうえお順に並べて：{x}",
    "{x} をあいうえお順にして。", "{x} をあいうえお順に。", "{x} をあいうえお順に並べてください。", "{x} を五十音順に並べて。",
    "五十音順に並べてください：{x}", "あいうえお順にして：{x}", "あいうえお順でお願いします：{x}", "次の言葉をあいうえお順に並べてください：{x}"],
    "en unseen": [
    "Which of these words comes first in a dictionary, which next? {x}",
    "Sorted by alphabet, please: {x}", "Dictionary order: {x}", "Words to sort: {x}"],
    "ja unseen": [
    "これらの言葉を五十音順に：{x}", "五十音で並べ替え：{x}",
    "{x} を五十音の順に並べてください。", "次の単語をあいうえお順に：{x}"]}

COUNT_WORDS = {"en": [
    "How many words: {x}", "Count the words: {x}", "How many words are in {x}?",
    "Number of words in: {x}", "Count the words in {x}.", "How many words are there? {x}",
    "How many words does this have: {x}", "Tell me how many words are in {x}.",
    "Count these words: {x}", "Word count: {x}", "How many words do you see? {x}",
    "The number of words, please: {x}",
], "ja": [
    "単語を数えて：{x}", "単語はいくつありますか：{x}", "何語ありますか：{x}", "語を数えて：{x}",
    "{x} は何語ですか？", "次の単語の数は？ {x}", "単語の数を教えて：{x}", "何語か数えてください：{x}",
    "言葉を数えて：{x}", "言葉はいくつありますか？ {x}", "{x} の単語の数は？", "言葉の数を教えてください：{x}",
], "en for training": [
    "How many words are in this text: {x}", "Count words: {x}", "How many words? {x}",
    "Count the words in this text: {x}", "How many words are in this sentence? {x}",
    "Words in {x}?", "What is the number of words in {x}?", "Count how many words there are: {x}",
    "How many words are here: {x}", "Give me the word count of {x}.", "how many words in {x}",
    "Can you count the words in {x}?", "Tell me the number of words: {x}",
    "Please count these words: {x}", "Please tell me how many words: {x}",
], "ja for training": [
    "単語の数は？ {x}", "何語ですか：{x}", "次の単語はいくつ？ {x}", "単語は全部で何語ですか：{x}", "言葉の数は？ {x}",
    "いくつの単語がありますか：{x}", "次の単語を数えて：{x}", "語の数を教えて：{x}", "単語がいくつあるか数えて：{x}", "何語あるか教えてください：{x}",
    "何語か教えて：{x}", "何語か数えて：{x}"],
    "en unseen": [
    "Words in this text, as a number: {x}", "What is the word count here? {x}",
    "How long is this in words? {x}", "A number, please: the words in {x}"],
    "ja unseen": [
    "語数を答えて：{x}", "次の文の単語の数を数えて：{x}", "{x} は全部で何語？",
    "単語が何個ありますか：{x}"]}

COUNT_LETTERS = {"en": [
    "How many letters are in {x}?", "Count the letters in {x}.", "Count the letters: {x}",
    "How many letters does {x} have?", "How many letters has the word {x}?",
    "How long is the word {x}?", "Number of letters in {x}?", "How many letters: {x}",
    "How many characters are in {x}?", "Count the characters: {x}",
    "Tell me how many letters {x} has.", "Count the letters of {x}.",
], "ja": [
    "文字を数えて：{x}", "{x} は何文字ですか？", "文字数は？ {x}", "何文字ありますか：{x}",
    "{x} の文字数を教えて。", "{x} の文字を数えてください。", "何文字か教えて：{x}", "{x} は何文字？",
    "{x} には文字がいくつありますか？", "文字数を数えて：{x}", "{x} の長さは何文字ですか？",
    "{x} の文字数は？",
], "en for training": [
    "How many letters in {x}?", "how many letters are in {x}",
    "Count the letters in the word {x}.", "What is the number of letters in {x}?",
    "How many letters are there in {x}?", "Letters in {x}?",
    "Give me the number of letters in {x}.", "What is the length of the word {x}?",
    "How many letters does the word {x} have?", "Count letters: {x}",
    "Count how many letters are in {x}.", "Can you count the letters in {x}?",
], "ja for training": [
    "{x} の文字は全部でいくつ？", "文字の数は？ {x}", "次の言葉は何文字ですか：{x}", "{x} の文字の数を教えてください。",
    "文字がいくつあるか数えて：{x}", "{x} は何文字あるか数えて。", "何文字？ {x}", "{x} の字数は？", "字数を教えて：{x}"],
    "en unseen": [
    "{x} has what number of letters?", "Letters in {x}, as a number?",
    "A number, please: the letters of {x}", "{x} is made of how many letters?"],
    "ja unseen": [
    "{x} の文字数を答えて。", "{x} は全部で何文字ですか？", "次の言葉の文字数を数えて：{x}",
    "{x} という言葉は何文字？"]}

COUNT_ITEMS = {"en": [
    "How many items are in this list: {x}", "Count the items: {x}", "How many items: {x}",
    "How many things are listed here: {x}", "How many numbers are here: {x}",
    "Count the entries in the list: {x}", "How many entries does the list have? {x}",
    "How many are there: {x}",
], "ja": [
    "いくつありますか：{x}", "項目を数えて：{x}", "リストの項目はいくつ？ {x}", "全部でいくつ：{x}",
    "何個ありますか：{x}", "次のリストは何個ですか：{x}", "個数を教えて：{x}", "項目の数は？ {x}",
], "en for training": [
    "How many items? {x}", "Count the things in this list: {x}", "Count these: {x}",
    "How many here: {x}", "How many items are there? {x}", "How long is this list: {x}",
    "Number of items: {x}", "How many elements does this list have: {x}",
    "Count the items in this list: {x}", "What is the number of items in {x}?",
    "How many are in the list {x}?", "Count: {x}", "Count what is listed here: {x}",
    "How many are listed: {x}", "How many things are in this list: {x}",
], "ja for training": [
    "リストにはいくつありますか：{x}", "数を数えて：{x}", "項目はいくつありますか：{x}", "いくつあるか数えて：{x}", "これは何個ですか：{x}",
    "全部で何個ですか：{x}", "次の項目を数えてください：{x}", "リストの数は？ {x}", "全部でいくつありますか：{x}", "項目の数を教えて：{x}",
    "項目の数：{x}"],
    "en unseen": [
    "Number the items of this list, how many? {x}", "Items in this list, as a number: {x}",
    "A number, please: the items of {x}", "What does this list hold, how many items? {x}"],
    "ja unseen": [
    "このリストはいくつありますか：{x}", "項目が何個か答えて：{x}", "次の項目はいくつ？ {x}",
    "いくつ並んでいますか：{x}"]}

UPPER = {"en": [
    "Upper case: {x}", "Make this uppercase: {x}", "Write {x} in capitals.",
    "Convert to uppercase: {x}", "Write {x} in capital letters.", "Uppercase {x}",
    "Capital letters, please: {x}", "Put this in capital letters: {x}", "Make {x} upper case.",
    "In upper case: {x}", "Change {x} to uppercase.", "Turn {x} into upper case.",
    "Please write in all caps: {x}", "All caps: {x}", "Can you make {x} uppercase?",
    "Write this in all capitals: {x}",
], "ja": [
    "大文字にして：{x}", "{x} を大文字にして。", "大文字で書いて：{x}", "大文字に変換して：{x}",
    "{x} を大文字で書いてください。", "次を大文字にしてください：{x}", "すべて大文字で：{x}", "{x} を大文字に。",
    "大文字に直して：{x}", "{x} を大文字に変えて。", "英字を大文字にして：{x}", "全部大文字にして：{x}",
    "{x} を大文字に変換してください。", "大文字：{x}", "{x} の大文字は？", "大文字に変えてください：{x}",
], "en for training": [
    "Write {x} in upper case.", "Make {x} uppercase.", "Make this all caps: {x}",
    "uppercase: {x}", "Convert {x} to upper case.", "To upper case: {x}",
    "Change this to capital letters: {x}", "Shout this: {x}", "Put {x} in capitals.",
    "Put this in upper case: {x}", "Turn this into capital letters: {x}",
], "ja for training": [
    "全部大文字で書いて：{x}", "大文字で：{x}", "大文字にしてください：{x}", "次の英字を大文字に直して：{x}",
    "{x} を全部大文字にしてください。", "すべての文字を大文字にして：{x}", "{x} を大文字に直してください。"],
    "en unseen": [
    "Shout {x}.", "No small letters, please: {x}", "{x} - the same in capitals.",
    "What does {x} look like in upper case?"],
    "ja unseen": [
    "次の文字を大文字に：{x}", "{x} を大文字で答えて。", "大文字に書き換えて：{x}",
    "すべて大文字に変えて：{x}"]}

LOWER = {"en": [
    "Lower case: {x}", "Make this lowercase: {x}", "Write {x} in small letters.",
    "Convert to lowercase: {x}", "Lowercase {x}", "Change {x} to lowercase.",
    "Make {x} lower case.", "Turn {x} into lower case.", "Small letters, please: {x}",
    "In lower case: {x}", "Can you make {x} lowercase?", "Put this in small letters: {x}",
], "ja": [
    "小文字にして：{x}", "{x} を小文字にして。", "小文字で書いて：{x}", "小文字に変換して：{x}",
    "{x} を小文字で書いてください。", "次を小文字にしてください：{x}", "すべて小文字で：{x}", "{x} を小文字に。",
    "小文字に直して：{x}", "{x} を小文字に変えて。", "{x} を小文字に変換してください。",
    "小文字に変えてください：{x}",
], "en for training": [
    "Write {x} in lower case.", "Make this all lower case: {x}", "lowercase: {x}",
    "Make {x} lowercase.", "Convert {x} to lower case.", "To lower case: {x}",
    "Change this to small letters: {x}", "Lowercase this: {x}", "Write this in lowercase: {x}",
    "No capitals, please: {x}", "Turn this into lowercase: {x}", "Please make {x} lower case.",
    "All lowercase: {x}", "Can you write {x} in lower case?", "Put {x} in lower case.",
    "Put this in lower case: {x}", "Turn this into small letters: {x}",
], "ja for training": [
    "全部小文字にして：{x}", "全部小文字で書いて：{x}", "小文字：{x}", "小文字にしてください：{x}", "小文字で：{x}",
    "英字を小文字にして：{x}", "{x} を全部小文字にして。", "{x} の小文字は？", "小文字に変えて：{x}", "すべての文字を小文字にして：{x}",
    "{x} を小文字に直してください。"],
    "en unseen": [
    "Every letter small: {x}", "{x} - the same in small letters.",
    "What does {x} look like in lower case?", "Take the capitals out of {x}."],
    "ja unseen": [
    "次の文字を小文字に：{x}", "{x} を小文字で答えて。", "小文字に書き換えて：{x}",
    "すべて小文字に変えて：{x}"]}

TITLE = {"en": [
    "Title case: {x}", "Make this title case: {x}", "Capitalize each word: {x}",
    "Convert to title case: {x}", "Capitalize the first letter of every word: {x}",
    "Write {x} in title case.", "Put {x} in title case.", "Capitalize every word: {x}",
    "Start each word with a capital: {x}", "Capitalize {x}", "In title case: {x}",
    "Change {x} to title case.",
], "ja": [
    "単語の先頭を大文字にして：{x}", "{x} の各単語の先頭を大文字にして。", "頭文字を大文字にして：{x}",
    "各単語の頭文字を大文字に：{x}", "{x} の頭文字を大文字にしてください。", "先頭だけ大文字にして：{x}",
    "最初の文字を大文字にして：{x}", "先頭の文字を大文字にしてください：{x}", "{x} の先頭を大文字に。",
    "単語の頭だけ大文字で：{x}", "{x} の最初の文字を大文字にしてください。", "{x} の頭文字を大文字に。",
], "en for training": [
    "Write this in title case: {x}", "Title case {x}", "Make {x} title case.",
    "Convert {x} to title case.", "Capitalize each word in {x}.", "Capitalize the words: {x}",
    "Capitalize the first letters: {x}", "Give every word a capital letter: {x}",
    "Write {x} as a title.", "To title case: {x}",
    "Capitalize the first letter of each word: {x}", "Each word with a capital: {x}",
    "Can you capitalize each word? {x}", "Capitalize this: {x}", "Change this to title case: {x}",
    "Please change {x} into title case.",
], "ja for training": [
    "各単語の先頭を大文字にして：{x}", "単語の最初だけ大文字にして：{x}", "{x} の先頭の文字を大文字にして。", "頭文字だけ大文字にして：{x}",
    "各単語の最初の文字を大文字に：{x}", "{x} の単語の先頭を大文字に。", "最初の文字だけ大文字で書いて：{x}", "{x}の頭文字を大文字にして",
    "単語ごとに先頭を大文字にして：{x}", "タイトルの形にして：{x}", "頭文字を大文字にしてください：{x}"],
    "en unseen": [
    "{x} - the same as a title.", "What does {x} look like in title case?",
    "A heading, please: {x}", "Big first letters for {x}."],
    "ja unseen": [
    "各単語の頭を大文字に変えて：{x}", "{x} の各単語の頭文字を大文字に。",
    "先頭を大文字に書き換えて：{x}", "単語の頭文字を大文字で書いて：{x}"]}

ADD = {"en": [
    "What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "Find {a} + {b}.", "What is {a}+{b}?",
    "{a} + {b} =", "Add {a} and {b}.", "Give me {a} + {b}.", "How much is {a} + {b}?",
    "What is {a} plus {b}?", "{a} plus {b}", "What does {a} + {b} make?", "Please add {a} and {b}.",
    "What is the sum of {a} and {b}?", "Add {b} to {a}.", "How many is {a} + {b}?",
    "Solve: {a} + {b}", "How much is {a} plus {b}?", "{a} and {b} make how much?", "What do you get for {a} + {b}?",
], "ja": [
    "{a} + {b} は？", "{a}+{b}", "{a} + {b} を計算して。", "{a} + {b} はいくつ？",
    "{a} 足す {b} は？", "{a}と{b}を足して。", "{a} + {b} =", "計算してください：{a} + {b}",
    "{a}足す{b}はいくつですか？", "{a}と{b}の合計は？", "計算して：{a}+{b}", "{a}+{b}の答えは？",
    "{a}に{b}を足すと？", "{a} たす {b} は？", "{a}と{b}の和を求めて。", "{a}プラス{b}は？",
], "en for training": [
    "{a} + {b}?", "what's {a}+{b}", "what is {a} + {b}", "Can you add {a} and {b}?",
    "{a} + {b} = ?", "Add: {a} + {b}", "Tell me {a} + {b}.", "Please compute {a} + {b}.",
    "sum of {a} and {b}", "How much do {a} and {b} make?", "calculate {a}+{b}",
    "If I add {b} to {a}, what do I get?", "Work this out: {a} + {b}",
    "Please work out {a} + {b}.", "Work out the sum of {a} and {b}.",
], "ja for training": [
    "{a}+{b}=", "{a}足す{b}", "{a}たす{b}は？", "{a} + {b} を計算してください。", "{a}+{b}はいくつですか？",
    "{a}と{b}を足すといくつ？", "{a}＋{b}は？", "{a}に{b}を加えて。", "{a}と{b}の和は？", "足し算：{a} + {b}", "{a}プラス{b}",
    "{a} プラス {b} はいくつ？", "{a}プラス{b}を計算して。"],
    "en unseen": [
    "{a} and another {b} make what?", "{a} + {b} equals?",
    "If I have {a} and get {b} more, how many is that?", "Total of {a} and {b}, please."],
    "ja unseen": [
    "{a} + {b} を教えて。", "{a}と{b}を合わせるといくつ？", "{a}プラス{b}を教えて。",
    "足し算して：{a} + {b}"]}

SUBTRACT = {"en": [
    "What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "Find {a} - {b}.", "What is {a}-{b}?",
    "{a} - {b} =", "Subtract {b} from {a}.", "Give me {a} - {b}.", "How much is {a} - {b}?",
    "What is {a} minus {b}?", "{a} minus {b}", "What does {a} - {b} make?",
    "Take {b} away from {a}.", "What is the difference of {a} and {b}?",
    "Solve: {a} - {b}", "How many is {a} - {b}?", "How much is {a} minus {b}?",
    "What is left if you take {b} from {a}?", "Please subtract {b} from {a}.", "What do you get for {a} - {b}?",
], "ja": [
    "{a} - {b} は？", "{a}-{b}", "{a} - {b} を計算して。", "{a} - {b} はいくつ？",
    "{a} 引く {b} は？", "{a}から{b}を引いて。", "{a} - {b} =", "計算してください：{a} - {b}",
    "{a}引く{b}はいくつですか？", "{a}と{b}の差は？", "計算して：{a}-{b}", "{a}-{b}の答えは？",
    "{a}から{b}を引くと？", "{a} ひく {b} は？", "{a}から{b}を取ると？", "{a}マイナス{b}は？",
], "en for training": [
    "{a} - {b}?", "what's {a}-{b}", "what is {a} - {b}", "Can you subtract {b} from {a}?",
    "{a} - {b} = ?", "Tell me {a} - {b}.", "Please compute {a} - {b}.", "Take {b} from {a}.",
    "calculate {a}-{b}", "What is {a} less {b}?", "Subtract: {a} - {b}",
    "difference between {a} and {b}", "Work this out: {a} - {b}", "Please work out {a} - {b}.",
    "Work out {a} minus {b}.",
], "ja for training": [
    "{a}-{b}=", "{a}引く{b}", "{a}ひく{b}は？", "{a} - {b} を計算してください。", "{a}-{b}はいくつですか？",
    "{a}から{b}を引くといくつ？", "{a}－{b}は？", "{a}から{b}を減らすと？", "引き算：{a} - {b}", "{a} 引く {b} を計算して。",
    "{a}マイナス{b}", "{a} マイナス {b} はいくつ？", "{a}マイナス{b}を計算して。"],
    "en unseen": [
    "{a} - {b} equals?", "If I have {a} and give away {b}, how many are left?",
    "How much more is {a} than {b}?", "{a} without {b} is what?"],
    "ja unseen": [
    "{a} - {b} を教えて。", "{a}から{b}を取るといくつ？", "{a}マイナス{b}を教えて。",
    "引き算して：{a} - {b}"]}

# The question before, of something else.
FOLLOW_UP = {"en": [
    "And {x}?", "And the word {x}?", "Now {x}.", "What about {x}?", "The same with {x}.",
    "And now {x}.", "Again, with {x}.", "And for {x}?", "Now do {x}.", "Do {x} too.",
    "Then {x}.", "And what about {x}?",
], "ja": [
    "{x}は？", "では{x}は？", "次は{x}。", "{x} はどうですか？", "{x}も。", "同じように{x}も。", "{x}もお願いします。",
    "{x} ではどうなりますか？", "今度は{x}。", "それでは{x}は？", "次に{x}をお願いします。", "{x}も同じようにして。",
], "en for training": [
    "What about the word {x}?", "And for the word {x}?", "What is it for {x}?", "And with {x}?",
    "And what about the word {x}?", "What about this: {x}", "What about {x} then?", "For {x}?",
    "Now the word {x}.", "And this: {x}", "Next: {x}", "{x}?", "How about {x}?", "Try {x}.",
    "The same for {x}.", "Now with {x}.", "And {x}", "Please do the same with {x}.",
    "Also {x}.", "Next word: {x}", "Now try the word {x}.", "Do the same for {x}, please.",
], "ja for training": [
    "{x}", "次：{x}", "{x}も", "{x}の場合は？", "{x} もやって。", "{x}についても。", "もう一つ：{x}", "じゃあ{x}は？",
    "{x} も同じく。", "{x} なら？", "続けて{x}。", "{x}もしてください。",
    "{x} だとどうなりますか？", "{x} ならどうなりますか？", "{x} だとどうですか？", "{x} ではどう？", "{x} ではどうでしょうか？",
    "{x} の場合はどうなりますか？", "{x} はどうなりますか？", "{x} はどう？", "{x} は？", "{x}も同じようにお願いします。",
    "{x}も同じにして。"],
    "en unseen": [
    "{x} as well.", "Here is another: {x}", "{x}, same as before.", "Then there is {x}."],
    "ja unseen": [
    "{x}だとどう？", "では、{x}もお願い。", "{x}で同じことをして。", "もう一度、{x}で。"]}

for _name, _rows in composed.TABLES.items():
    globals()[_name]["en" + COMPOSED] = _rows
