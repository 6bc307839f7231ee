"""Owns wordings that are put together out of parts, for training alone: what a request says stands
between words that say little, in many orders.

Data alone: a wording is one of each column of a row, joined. Every table of wordings.py that is
named here has some.
"""

# Before a verb in its plain form.
ASKS = ["", "", "", "please ", "can you ", "could you ", "would you ", "I want you to ",
        "I need you to ", "I would like you to ", "you should ", "your task is to ", "try to ",
        "I'd like you to ", "you must ", "let us ", "now ", "go and ", "help me "]
ENDS = ["", "", "", ".", " now", " for me", ", please", "?", "!"]
# Before what is wanted, as a thing.
WANTS = ["I want ", "I need ", "give me ", "show me ", "tell me ", "I'd like ", "let me see ",
         "let me have ", "what is ", "find ", "get me ", "may I have ", "return ", "write "]
TEXT = ["this text: {x}", "the text {x}", "the following: {x}", "what follows: {x}", "this: {x}",
        "{x}"]
NUMBERS = ["these numbers: {x}", "the numbers {x}", "the following numbers: {x}", "this: {x}",
           "this list: {x}", "the list {x}", "the values {x}", "these: {x}", "{x}"]
WORDS = ["these words: {x}", "the words {x}", "the following words: {x}", "this list: {x}",
         "the terms {x}", "these: {x}", "all of these words: {x}"]
WORD = ["{x}", "the word {x}", "the text {x}", "this: {x}", "this word: {x}", "the string {x}"]
UP = ["in ascending order", "from smallest to largest", "from low to high", "in rising order",
      "by size", "from least to greatest", "with the smallest first", "from the smallest up",
      "so that they go up"]
DOWN = ["in descending order", "from largest to smallest", "from high to low", "in falling order",
        "from greatest to least", "with the largest first", "from the largest down",
        "so that they go down"]
ALPHABET = ["alphabetically", "in alphabetical order", "by letter", "from A to Z",
            "by their first letters", "in the order of the alphabet"]
SORTS = ["sort ", "order ", "arrange ", "put ", "rank ", "list ", "write ", "bring ", "place "]
OF = [" of ", " in ", " for "]
EQUATION = ["what is ", "how much is ", "compute ", "calculate ", "solve ", "tell me ", "find ",
            "work out ", "I need ", "answer ", "do you know ", "can you tell me ", "evaluate "]

REPEAT = [
    [ASKS, ["repeat ", "say ", "write ", "type ", "echo ", "copy ", "print ", "output ", "return ",
            "read back ", "give back ", "send back ", "write out ", "speak ", "recite ", "state ",
            "put down "],
     ["", "", "exactly ", "just ", "only ", "simply "], [*TEXT, "these words: {x}"],
     [*ENDS, " again", " and nothing else", " once more", " back to me", " as it stands",
      " word for word", " as it is"]],
    [["answer ", "reply ", "respond ", "please answer ", "your reply is ", "come back ",
      "end your answer ", "start and end "], ["", "just ", "only ", "simply "],
     ["with {x}", "with exactly {x}", "with the text {x}", "with the words {x}"], ENDS],
    [["the text to repeat is ", "my text: ", "the words to say: ", "to be repeated: ", "again: ",
      "my words, again: ", "same again: ", "let me hear: ", "I want to read: ",
      "the answer is to be "], ["{x}"], ["", "."]]]
REVERSE = [
    [ASKS, ["reverse ", "mirror ", "flip ", "turn around ", "invert "],
     [*WORD, "the letters of {x}", "the order of letters in {x}"], ENDS],
    [ASKS, ["write ", "spell ", "say ", "type ", "print ", "put "], WORD,
     [" backwards", " in reverse", " reversed", " in reverse order", " from back to front",
      " from the end to the start", " the other way round", " with its letters reversed"], ENDS],
    [WANTS, ["the reverse of {x}", "{x} backwards", "{x} in reverse", "{x} spelled backwards",
             "the word {x} backwards", "the letters of {x} backwards"], ["", ".", "?", " please"]],
    [WANTS, ["{x}", "the word {x}"], [" reversed", " turned around", " mirrored", " in reverse"],
     ["", ".", "?", " please"]]]
SORT_NUMBERS = [
    [ASKS, SORTS, NUMBERS[1:2] + NUMBERS[5:7] + ["{x}", "{x}"], [" "], UP, ["", ".", "?"]],
    [ASKS, ["sort ", "order ", "arrange ", "rank "], ["", "all of "], NUMBERS],
    [ASKS, SORTS, ["these ", "them ", "the numbers ", "these numbers "], UP, [": {x}"]],
    [WANTS, ["{x} ", "these numbers "], UP, [": {x}"]],
    [UP, [": {x}", ", please: {x}"]]]
SORT_DOWN = [
    [ASKS, SORTS, NUMBERS[1:2] + NUMBERS[5:7] + ["{x}", "{x}"], [" "], DOWN, ["", ".", "?"]],
    [ASKS, SORTS, ["these ", "them ", "the numbers ", "these numbers "], DOWN, [": {x}"]],
    [WANTS, ["these numbers ", "this "], DOWN, [": {x}"]],
    [DOWN, [": {x}", ", please: {x}"]]]
SORT_WORDS = [
    [ASKS, SORTS, ["these ", "them ", "the words ", "these words ", "this list ", "these terms "],
     ALPHABET, [": {x}"]],
    [ASKS, ["sort ", "order ", "arrange ", "rank "], WORDS],
    [ASKS, SORTS, ["the words {x} ", "the terms {x} "], ALPHABET, ["", "."]],
    [WANTS, ["these words ", "the words "], ALPHABET, [": {x}"]],
    [ALPHABET, [": {x}", ", please: {x}"]]]
COUNT_WORDS = [
    [ASKS, ["count ", "count up ", "tell me the number of ", "give the number of ",
            "find the number of ", "say the number of "],
     ["words", "all words", "all the words", "the words"], [" in {x}", " in this: {x}", ": {x}",
                                                            " here: {x}", " of this text: {x}"]],
    [["how many words "], ["are ", "are there ", "do we have ", "stand ", "can be found "],
     ["in {x}", "in this: {x}", "here: {x}", "in the text {x}", "in this sentence: {x}"],
     ["", "?"]]]
COUNT_LETTERS = [
    [ASKS, ["count ", "count up ", "tell me the number of ", "give the number of ",
            "find the number of ", "say the number of "],
     ["letters", "all letters", "the characters", "characters"],
     [" in {x}", " of {x}", " in the word {x}", " of the word {x}", ": {x}"]],
    [["how many letters ", "how many characters "], ["are ", "are there ", "do we have "],
     ["in {x}", "in the word {x}", "in this word: {x}", "in the string {x}"], ["", "?"]]]
UPPER = [
    [ASKS, ["write ", "put ", "make ", "turn ", "change ", "convert ", "set ", "print ", "type "],
     ["{x} ", "the text {x} ", "the words {x} "],
     ["in upper case", "into upper case", "to upper case", "in capitals", "into capitals",
      "all uppercase", "in capital letters", "into capital letters"], ["", ".", "?"]],
    [ASKS, ["write ", "put ", "change ", "convert ", "set ", "rewrite "], ["this ", "the text "],
     ["in upper case", "to upper case", "in capitals", "into capital letters", "in uppercase"],
     [": {x}"]]]
LOWER = [
    [ASKS, ["write ", "put ", "make ", "turn ", "change ", "convert ", "set ", "print ", "type "],
     ["{x} ", "the text {x} ", "the words {x} "],
     ["in lower case", "into lower case", "to lower case", "in small letters", "all lowercase",
      "into small letters", "in lowercase letters"], ["", ".", "?"]],
    [ASKS, ["write ", "put ", "change ", "convert ", "set ", "rewrite "], ["this ", "the text "],
     ["in lower case", "to lower case", "in small letters", "into lowercase", "in lowercase"],
     [": {x}"]]]
TITLE = [
    [ASKS, ["write ", "put ", "make ", "turn ", "change ", "convert ", "set ", "print ", "type "],
     ["{x} ", "the text {x} ", "the words {x} "],
     ["in title case", "into title case", "to title case", "a title", "like a title"],
     ["", ".", "?"]],
    [ASKS, ["capitalize ", "write with a capital ", "begin with a capital "],
     ["each word", "every word", "all words", "the first letter of each word"],
     [": {x}", " of {x}", " in {x}"]]]
ADD = [
    [EQUATION, ["{a} + {b}", "{a}+{b}", "{a} plus {b}", "the sum of {a} and {b}",
                "{a} and {b} added up", "{a} and {b} together"], ["", ".", "?", " please"]],
    [ASKS, ["add ", "add up ", "sum "], ["{a} and {b}", "the numbers {a} and {b}", "{a} + {b}"],
     ENDS]]
SUBTRACT = [
    [EQUATION, ["{a} - {b}", "{a}-{b}", "{a} minus {b}", "the difference of {a} and {b}",
                "{a} less {b}"], ["", ".", "?", " please"]],
    [ASKS, ["subtract {b} from {a}", "take {b} from {a}", "take {b} off {a}",
            "take away {b} from {a}", "remove {b} from {a}"], ENDS]]
FOLLOW_UP = [
    [["and ", "now ", "then ", "next ", "also ", "again ", "so ", "please ", "OK, "],
     ["{x}", "the word {x}", "with {x}", "for {x}", "do {x}", "try {x}", "take {x}", "what of {x}",
      "what is it with {x}", "use {x}", "the same thing for {x}", "the same thing with {x}"],
     ["", ".", "?", " please", " too"]]]
TABLES = {
    "REPEAT": REPEAT, "REVERSE": REVERSE, "SORT_NUMBERS": SORT_NUMBERS, "SORT_DOWN": SORT_DOWN,
    "SORT_WORDS": SORT_WORDS, "COUNT_WORDS": COUNT_WORDS, "COUNT_LETTERS": COUNT_LETTERS,
    "UPPER": UPPER, "LOWER": LOWER, "TITLE": TITLE, "ADD": ADD, "SUBTRACT": SUBTRACT,
    "FOLLOW_UP": FOLLOW_UP}
