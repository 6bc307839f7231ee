"""Owns requests for tools that are put together out of parts, for training alone, as composed.py
does for plain exercises.

Data alone. Nothing but the optional parts' phrases, {o}, follows a text that is to be copied: what
belongs to it could not be told.
"""
from composed import ASKS

POLITE = [lead for lead in ASKS if lead]
END = ["", ".", "?"]
SEEK = ["what is ", "tell me ", "show me ", "give me ", "check ", "find ", "look up ", "I need ",
        "I want ", "can you tell me ", "do you know ", "please find ", "let me know "]
WISH = ["I want to ", "I'd like to ", "let me ", "we want to ", "I wish to ", "I love to ",
        "it is time to ", "now let me ", "today I want to ", "may I ", "can I "]
WANT = ["I want ", "I need ", "I'd like ", "we need ", "we would like ", "can I have ",
        "may I have ", "I am in need of "]
WEATHER = ["the weather ", "the forecast ", "the weather forecast ", "the current weather ",
           "the weather now "]
TIME = ["the time ", "the local time ", "the current time ", "the exact time ", "the hour "]
TABLE = ["a table ", "a seat ", "seats ", "dinner ", "lunch ", "a restaurant ", "a place to eat "]
SHARE = ["the stock price of ", "the share price of ", "the price of a share of ", "the stock of ",
         "the current stock price of ", "the price of the stock of "]
SONG = ["", "the song ", "the track ", "the music ", "a song called "]
JA = ["", "ください", "ほしい", "もらえますか", "くれますか", "ほしいです"]

# By a natural tool's first name, rows of columns by language.
NATURAL = {
    "get_weather": {"en": [
        [SEEK, WEATHER, ["in ", "for ", "of ", "at "], ["{v}{o}"], END],
        [["is it ", "will it be ", "does it get ", "is it now ", "could it be ",
          "do you think it is "],
         ["cold ", "warm ", "sunny ", "windy ", "wet ", "dry ", "rainy ", "hot ", "cloudy ",
          "raining ", "snowing "], ["in ", "over in ", "at "], ["{v}{o}"], ["", "?"]]],
        "ja": [
        [["{o}{v}"], ["の天気", "の今の天気", "の天気予報", "の空模様"],
         ["を教えて", "を知らせて", "を調べて", "を見せて", "を確認して"], JA, ["", "。"]],
        [["{o}{v}"], ["は", "では", "は今", "では今"], ["雨", "晴れ", "曇り", "雪"],
         ["ですか", "かな", "でしょうか"], ["", "？", "。"]]]},
    "get_time": {"en": [
        [SEEK, TIME, ["in ", "for ", "at ", "over in "], ["{v}{o}"], END],
        [["how late ", "what time ", "tell me what time ", "say how late "], ["is it ", "it is "],
         ["", "now ", "right now "], ["in {v}{o}", "over in {v}{o}", "at {v}{o}"], ["", "?"]]],
        "ja": [
        [["{v}"], ["の時刻", "の時間", "の今の時刻", "の現地時刻"],
         ["を教えて", "を知らせて", "を調べて", "を見せて", "を確認して"], JA, ["。{o}"]],
        [["{v}"], ["は", "では", "は今", "では今"], ["何時", "何時何分"], ["", "ですか", "かな", "でしょうか"],
         ["。{o}", "？{o}"]]]},
    "search": {"en": [
        [ASKS, ["search for ", "look for ", "hunt for ", "search the web for ", "look up ",
                "find ", "seek ", "google ", "find pages about ", "find texts about ",
                "look for documents on ", "search for pages on "], ["{v}{o}"], END],
        [WISH, ["find ", "look up ", "search for ", "read about "], ["{v}{o}"], END]],
        "ja": [
        [["{v}"], ["を", "について", "に関して", "のことを", "で"],
         ["検索して", "調べて", "探して", "調べてみて", "検索してみて"], JA, ["。{o}"]]]},
    "send_email": {"en": [
        [ASKS, ["send ", "write ", "mail ", "dispatch "],
         ["a message ", "an email ", "a mail ", "a letter ", "a short message "], ["to {v}{o}"],
         END],
        [ASKS, ["email ", "message ", "write to ", "contact ", "inform ", "mail "], ["{v}{o}"],
         END],
        [WISH, ["send a message to ", "write to ", "email "], ["{v}{o}"], END],
        [["let ", "now let ", "please let "], ["{v} "],
         ["know", "know by mail", "know by message", "get a message", "have an email"], ["{o}"],
         END]],
        "ja": [
        [["{v}"], ["に", "さんに", "へ", "さんへ"], ["メール", "メッセージ", "伝言", "電子メール"],
         ["を送って", "を書いて", "を出して", "を届けて", "を送信して"], JA, ["。{o}"]]]},
    "set_timer": {"en": [
        [ASKS, ["set ", "start ", "run ", "make ", "begin "],
         ["a timer ", "the timer ", "a countdown ", "my timer "],
         ["for {v} minutes{o}", "of {v} minutes{o}", "to {v} minutes{o}"], END],
        [ASKS, ["wake me ", "remind me ", "call me ", "alert me ", "tell me "],
         ["in {v} minutes{o}", "after {v} minutes{o}", "when {v} minutes are over{o}"], END]],
        "ja": [
        [["{v}分"], ["のタイマーを", "タイマーを", "の時間を", "で時計を"],
         ["始めて", "かけて", "開始して", "設定して", "動かして", "計って"], JA, ["。{o}"]],
        [["{v}分"], ["後に", "したら", "たったら", "過ぎたら"], ["知らせて", "起こして", "教えて", "呼んで"], JA,
         ["。{o}"]]]},
    "book_table": {"en": [
        [ASKS, ["book ", "reserve ", "get me ", "get us ", "find me ", "find us ", "book me ",
                "order "], TABLE, ["in {v}{o}", "at {v}{o}"], END],
        [WANT, TABLE, ["in {v}{o}", "at {v}{o}"], END],
        [WISH, ["eat ", "dine ", "have dinner ", "have lunch ", "sit at a table ", "eat out "],
         ["in {v}{o}", "at {v}{o}"], END]],
        "ja": [
        [["{v}"], ["で", "の", "に"], ["席", "レストラン", "食事の席", "夕食の席", "テーブル", "店"],
         ["を予約して", "を取って", "を押さえて", "を確保して", "を頼んで"], JA, ["。{o}"]]]},
    "get_stock_price": {"en": [
        [SEEK, SHARE, ["{v}{o}"], END],
        [["how much is ", "what is ", "how high is ", "tell me what "],
         ["a share of {v}", "one share of {v}", "stock of {v}", "{v} stock"],
         ["{o}", " worth{o}", " now{o}"], ["", "?"]]],
        "ja": [
        [["{v}"], ["の株価", "の株の値段", "株の値段", "の株の価格", "の一株の値段"],
         ["を教えて", "を調べて", "を知らせて", "を見て", "を見せて"], JA, ["。{o}"]]]},
    "play_music": {"en": [
        [ASKS, ["play ", "put on ", "turn on ", "stream ", "play me ", "play us "], SONG,
         ["{v}{o}"], END],
        [WISH, ["hear ", "listen to ", "enjoy ", "play "], SONG, ["{v}{o}"], END]],
        "ja": [
        [["", "", "では、"], ["{v}"], ["を", "という曲を", "の曲を", "という歌を"],
         ["かけて", "流して", "再生して", "聞かせて"], JA, ["。{o}"]],
        [["{v}"], ["が", "を", "という曲が"], ["聞きたい", "聴きたい"], ["", "です", "な"], ["。{o}"]]]}}

# Around a composed request.
REQUEST = {
    "en": [[POLITE, ["{r}"], ["", ".", "?", "!"]]],
    "ja": [[["", "では、", "まず、", "今、"], ["{r}"],
            [*JA, "もらいたい", "もらいたいです", "くださいませんか", "くれませんか", "もらえませんか"],
            ["", "。", "？"]]]}
