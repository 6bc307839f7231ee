"""Owns what tools can be about: verbs, nouns, parameters, and how they are asked for. Data alone.

Composed tools are a verb and a noun; natural ones are those that people try first.
"""
import composed_requests
from split import COMPOSED

# English verb, its Japanese request and its Japanese dictionary form, after "{noun}を".
VERBS = [line.split() for line in """get 取得して 取得する|find 探して 探す|show 見せて 見せる|send 送って 送る|
create 作って 作る|delete 削除して 削除する|update 更新して 更新する|book 予約して 予約する|check 確認して 確認する|
open 開いて 開く|close 閉じて 閉じる|start 開始して 開始する|stop 止めて 止める|add 追加して 追加する|
remove 外して 外す|read 読んで 読む|save 保存して 保存する|print 印刷して 印刷する|share 共有して 共有する|
cancel 取り消して 取り消す|order 注文して 注文する|play 再生して 再生する|record 記録して 記録する|
search 検索して 検索する|list 一覧にして 一覧にする|measure 測って 測る|copy 写して 写す|move 移して 移す|
track 追跡して 追跡する|count 数えて 数える""".replace("\n", "").split("|")]

NOUNS = [line.split() for line in """weather 天気|news ニュース|ticket 切符|note メモ|file ファイル|song 曲|
meeting 会議|table 席|room 部屋|message メッセージ|email メール|alarm アラーム|price 値段|map 地図|route 経路|
photo 写真|timer タイマー|report 報告書|light 照明|door 扉|user 利用者|invoice 請求書|package 荷物|task 作業|
recipe レシピ|book 本|flight 便|hotel ホテル|stock 株価|account 口座|calendar 予定表|reminder リマインダー|
temperature 温度|event 催し|payment 支払い|document 文書|customer 顧客|product 商品|movie 映画|playlist プレイリスト|
contact 連絡先|train 電車|taxi タクシー|server サーバー|backup バックアップ|password パスワード|image 画像|
time 時刻|machine 機械|sensor センサー""".replace("\n", "").split("|")]

# What stands in tools' names besides.
NAME_PARTS = """now today info data for with from my new tool api v2 service request query value
current local quick auto do run call fetch make last next city user item""".split()

# Parameter: kind of value, English and Japanese descriptions, how a request gives it.
PARAMETERS = {
    "city": ("city", "Name of the city", "都市名", ["in {v}", "at {v}"], ["{v}", "都市は{v}"]),
    "location": ("city", "The place", "場所", ["in {v}", "at {v}"], ["{v}", "場所は{v}"]),
    "name": ("name", "Name", "名前", ["for {v}", "named {v}"], ["名前は{v}", "{v}という名前"]),
    "recipient": ("name", "Who gets it", "宛先", ["to {v}", "for {v}"], ["宛先は{v}", "{v}宛て"]),
    "title": ("text", "The title", "題名", ["titled {v}", "with the title {v}"],
              ["題名は{v}", "タイトルは{v}"]),
    "text": ("text", "The text", "本文", ["with the text {v}", "saying {v}"],
             ["本文は{v}", "内容は{v}"]),
    "query": ("text", "What to look for", "検索語", ["about {v}", "on the topic {v}"],
              ["検索語は{v}", "キーワードは{v}"]),
    "day": ("day", "Day of the week", "曜日", ["on {v}", "for {v}"], ["{v}", "曜日は{v}"]),
    "time": ("clock", "Time of day", "時刻", ["at {v}"], ["時刻は{v}", "{v}"]),
    "id": ("code", "Identifier", "番号", ["number {v}", "with id {v}"], ["番号は{v}", "IDは{v}"]),
    "amount": ("integer", "How many", "数量", ["with amount {v}", "amount {v}"],
               ["数量は{v}", "{v}個"]),
    "people": ("integer", "Number of people", "人数", ["for {v} people"], ["{v}人", "人数は{v}人"]),
    "minutes": ("integer", "Minutes", "分", ["for {v} minutes", "in {v} minutes"], ["{v}分"]),
    "unit": ("unit", "Unit of temperature", "温度の単位", ["in {v}"], ["単位は{v}"]),
    "color": ("color", "Colour", "色", ["in {v}", "with color {v}"], ["色は{v}"]),
    "format": ("format", "Output format", "形式", ["as {v}", "in {v} format"], ["形式は{v}"]),
}
# Parameters that a request cannot tell apart: a tool has one of them at most.
ALIKE = [{"city", "location"}, {"name", "recipient"}]
ENUMS = {"unit": ["celsius", "fahrenheit"], "color": ["red", "green", "blue", "white", "black"],
         "format": ["pdf", "csv", "json", "text"]}

# Wordings around a composed request: {r} is "get the weather in Paris".
REQUEST = {"en": [
    "{R}.", "Please {r}.", "Can you {r}?", "Could you {r}?", "{R}", "I want you to {r}.",
    "I need you to {r}.", "Would you {r}?", "Please {r}", "Can you please {r}?",
    "I would like you to {r}.", "I ask you to {r}.", "Go and {r}.", "Let's {r}.", "Help me {r}.",
    "Could I ask you to {r}?"],
    "ja": ["{r}ください。", "{r}。", "{r}", "{r}ほしい。", "{r}もらえますか？", "{r}くれる？", "お願い、{r}。",
           "{r}いただけますか？",
], "en for training": [
    "{R}!", "Please {r} now.", "I'd like you to {r}.", "Can you {r} for me?",
    "Be so kind and {r}.", "Hi, {r}.", "You should {r}.", "{R}, please.", "Could you please {r}?",
    "Would you kindly {r}?", "{R}, could you?", "Would you please {r}?", "Please kindly {r}.",
    "Kindly {r}, please.", "Would you {r} now?", "And now {r}.", "Help me to {r}.",
], "ja for training": [
    "{r}くれますか？", "{r}。お願いします。", "{r}くださいますか？", "今すぐ{r}ください。", "{r}欲しいです。", "では、{r}ください。",
    "{r}ほしいです。", "{r}いただきたいです。", "{r}いただけませんか？", "{r}ほしいのですが。",
    "{r}ほしいな。"],
    "en unseen": [
    "I have a task: {r}.", "What I need: {r}.", "My request: {r}.",
    "It would be nice if you could {r}."],
    "ja unseen": [
    "すみませんが、{r}ください。", "次に、{r}ください。", "{r}もらえる？", "どうか{r}ください。"]}

# Natural tools: names, description, Japanese description, required parameter, optional ones,
# requests by language; {v} is the required value, {o} the optional ones' phrases.
NATURAL = [
    (["get_weather", "weather", "current_weather", "get_current_weather", "weather_lookup",
      "fetch_weather", "weather_forecast", "weather_now", "weather_report"],
     "Get the weather of a city", "都市の天気を調べる",
     ["city", "location"], ["unit", "day"],
     {"en": ["What is the weather in {v}{o}?", "How is the weather in {v}{o}?",
             "What's the weather like in {v}{o}?", "Tell me the weather in {v}{o}.",
             "Weather in {v}{o}?", "Is it raining in {v}{o}?", "Show me the weather for {v}{o}.",
             "Do I need an umbrella in {v}{o}?"],
      "ja": ["{o}{v}の天気は？", "{o}{v}の天気を教えて。", "{o}{v}の天気はどうですか？", "{v}は雨ですか？{o}"],
      "en for training": [
          "What will the weather be in {v}{o}?", "what's the weather in {v}{o}",
          "Check the weather in {v}{o}.", "Get the weather for {v}{o}.", "Weather for {v}{o}",
          "Is it cold in {v}{o}?", "Is it sunny in {v}{o}?", "Give me the weather in {v}{o}.",
          "Do I need a coat in {v}{o}?", "Will I need an umbrella in {v}{o}?",
          "Do we need umbrellas in {v}{o}?", "Should I take an umbrella in {v}{o}?",
          "Can you tell me the weather in {v}{o}?"],
      "ja for training": [
          "{o}{v}の天気を調べて。", "{o}{v}の天気", "{o}{v}の天気はどう？", "{o}{v}は晴れですか？", "{v}の今の天気は？{o}",
          "{o}{v}の天気を教えてください。", "{v}で雨は降っていますか？{o}", "{o}{v}は雨？"],
      "en unseen": [
          "How will the weather be in {v}{o}?", "What weather does {v} have{o}?",
          "Is there rain in {v}{o}?"],
      "ja unseen": [
          "{v}の天気を知りたい。{o}", "{v}の天気を見て。{o}", "{o}{v}の天気は何ですか？"]}),
    (["get_time", "current_time", "get_current_time", "time_in_city", "world_clock", "local_time"],
     "Get the current time in a city", "都市の現在時刻を調べる", ["city", "location"], ["format"],
     {"en": ["What time is it in {v}{o}?", "Tell me the time in {v}{o}.",
             "What is the current time in {v}{o}?", "How late is it in {v}{o}?"],
      "ja": ["{v}は今何時ですか？{o}", "{v}の時刻を教えて。{o}", "{v}の現在時刻は？{o}", "{v}は何時？{o}"],
      "en for training": [
          "What's the time in {v}{o}?", "what time is it in {v}{o}", "Time in {v}{o}?",
          "Current time in {v}{o}", "Give me the time in {v}{o}.", "Check the time in {v}{o}.",
          "How late is it now in {v}{o}?", "Tell me what time it is in {v}{o}.",
          "In {v}, how late is it{o}?", "Do you know how late it is in {v}{o}?",
          "How late is it over in {v}{o}?"],
      "ja for training": [
          "{v}の時間を教えて。{o}", "{v}の時刻は？{o}", "今{v}は何時？{o}", "{v}の今の時刻を調べて。{o}", "{v}は何時ですか？{o}",
          "{v}の今の時間は？{o}",
          "{v}は何時ですか。{o}", "{v}は何時かな？{o}", "{v}は今何時？{o}", "{v}って何時？{o}"],
      "en unseen": [
          "What is the time now in {v}{o}?", "The time in {v}, please{o}.",
          "Which time is it in {v}{o}?"],
      "ja unseen": [
          "{v}の時刻を知りたい。{o}", "{v}の時計を見て。{o}", "{v}の時刻を調べてください。{o}"]}),
    (["search", "web_search", "search_web", "find_documents", "search_documents", "lookup"],
     "Search for documents", "文書を検索する", ["query"], ["format"],
     {"en": ["Search for {v}{o}.", "Look up {v}{o}.", "Find documents about {v}{o}.",
             "Find me pages about {v}{o}."],
      "ja": ["{v}を検索して。{o}", "{v}について調べて。{o}", "{v}に関する文書を探して。{o}", "{v}で検索して。{o}"],
      "en for training": [
          "search for {v}{o}", "Find {v}{o}.", "Search {v}{o}", "Can you search for {v}{o}?",
          "Do a search for {v}{o}.", "Please look up {v}{o}.", "Search the internet for {v}{o}.",
          "Find {v} on the web{o}.", "Use the web to look up {v}{o}.",
          "Search the web: {v}{o}.", "Please search the web for {v}{o}.", "Web search for {v}{o}."],
      "ja for training": [
          "{v}を調べて。{o}", "{v}を探して。{o}", "{v}の文書を検索して。{o}", "{v}について検索して。{o}", "{v}の情報を見つけて。{o}",
          "{v}で調べて。{o}", "{v}の検索をして。{o}",
          "{v}で検索してください。{o}", "{v}と検索して。{o}", "{v}で検索をお願い。{o}"],
      "en unseen": [
          "Please find documents on {v}{o}.", "I am looking for {v}{o}.",
          "Run a search for {v}{o}."],
      "ja unseen": [
          "{v}の文書を見つけて。{o}", "{v}について文書を検索して。{o}",
          "{v}を検索してください。{o}"]}),
    (["send_email", "send_message", "send_mail", "write_email", "notify", "message_user"],
     "Send a message to a person", "人にメッセージを送る", ["recipient", "name"], ["text", "title"],
     {"en": ["Send a message to {v}{o}.", "Write to {v}{o}.", "Send an email to {v}{o}.",
             "Let {v} know by email{o}."],
      "ja": ["{v}にメールを送って。{o}", "{v}にメッセージを送って。{o}", "{v}に連絡して。{o}", "{v}にメールして。{o}"],
      "en for training": [
          "Send {v} a message{o}.", "Send {v} an email{o}.", "Write an email to {v}{o}.",
          "Message {v}{o}.", "Write a message to {v}{o}.", "Please send a message to {v}{o}.",
          "Mail {v}{o}.", "Email a message to {v}{o}.",
          "Please email {v}{o}.", "Can you email {v}{o}?", "Now email {v}{o}."],
      "ja for training": [
          "{v}さんにメールを送って。{o}", "{v}さんにメッセージを送って。{o}", "{v}へメールを書いて。{o}", "{v}さんに連絡してください。{o}",
          "{v}にメールを出して。{o}", "{v}にメールしてください。{o}", "{v}さんにメールして。{o}"],
      "en unseen": [
          "Send word to {v}{o}.", "Pass a message on to {v}{o}.", "Drop {v} a message{o}."],
      "ja unseen": [
          "{v}にメッセージをお願い。{o}", "{v}へのメールを送って。{o}",
          "{v}に手紙を送って。{o}"]}),
    (["set_timer", "start_timer", "timer", "countdown", "set_alarm_minutes",
      "kitchen_timer"],
     "Start a timer", "タイマーを始める", ["minutes"], ["name"],
     {"en": ["Set a timer for {v} minutes{o}.", "Start a timer of {v} minutes{o}.",
             "Timer for {v} minutes{o}.", "Wake me in {v} minutes{o}."],
      "ja": ["{v}分のタイマーをかけて。{o}", "タイマーを{v}分にして。{o}", "{v}分計って。{o}", "{v}分後に知らせて。{o}"],
      "en for training": [
          "Set a {v} minute timer{o}.", "set a timer for {v} minutes{o}",
          "Remind me in {v} minutes{o}.", "{v} minutes timer{o}.", "Count down {v} minutes{o}.",
          "Please start a timer for {v} minutes{o}.", "Wake me up in {v} minutes{o}.",
          "In {v} minutes, wake me{o}."],
      "ja for training": [
          "{v}分のタイマー。{o}", "{v}分タイマーをお願い。{o}", "タイマーを{v}分で始めて。{o}", "{v}分間計ってください。{o}",
          "{v}分のタイマーを始めて。{o}", "{v}分経ったら知らせて。{o}", "{v}分後に教えて。{o}"],
      "en unseen": [
          "I need a timer for {v} minutes{o}.", "Put a timer on {v} minutes{o}.",
          "Timer, {v} minutes{o}."],
      "ja unseen": [
          "{v}分のタイマーをセットして。{o}", "タイマーを{v}分お願い。{o}",
          "{v}分後に教えてください。{o}"]}),
    (["book_table", "reserve_table", "restaurant_booking", "make_reservation"],
     "Book a table in a restaurant", "レストランの席を予約する", ["city", "location"],
     ["people", "day", "time"],
     {"en": ["Book a table in {v}{o}.", "Reserve a table in {v}{o}.",
             "I want to eat out in {v}{o}.", "I would like a table in {v}{o}."],
      "ja": ["{v}で席を予約して。{o}", "{v}のレストランを予約して。{o}", "{v}で食事の予約をして。{o}",
             "{v}で席を取って。{o}"],
      "en for training": [
          "Find me a restaurant in {v}{o}.", "I need a table in {v}{o}.",
          "book a table in {v}{o}", "Make a reservation in {v}{o}.",
          "Please reserve a table in {v}{o}.", "Dinner in {v}{o}, please.",
          "Get a table in {v}{o}.", "Can you get me a table in {v}{o}?",
          "Get us a table in {v}{o}.", "Please get me a table in {v}{o}.",
          "Find me a table in {v}{o}.", "Get me a seat in {v}{o}.", "A table in {v}{o}."],
      "ja for training": [
          "{v}のレストランの席を取って。{o}", "{v}で予約をお願いします。{o}", "{v}でレストランを予約してください。{o}", "{v}の席を予約して。{o}",
          "{v}で夕食の予約をして。{o}", "{v}で席を予約してください。{o}",
          "{v}で席を取ってください。{o}", "{v}で席を取りたい。{o}", "{v}で席をお願い。{o}", "{v}に席を取って。{o}",
          "{v}の席を取って。{o}"],
      "en unseen": [
          "We want a table in {v}{o}.", "Please book us a table in {v}{o}.",
          "Find a table for me in {v}{o}."],
      "ja unseen": [
          "{v}で席を用意して。{o}", "{v}で予約を取って。{o}",
          "{v}のレストランに予約を入れて。{o}"]}),
    (["get_stock_price", "stock_price", "share_price", "quote_stock", "stock_quote"],
     "Get the price of a share", "株価を調べる", ["name", "id"], ["day"],
     {"en": ["What is the stock price of {v}{o}?", "How is the stock of {v}{o}?",
             "Get me the share price of {v}{o}.", "What does a share of {v} cost{o}?"],
      "ja": ["{v}の株価は？{o}", "{v}の株価を教えて。{o}", "{v}の株はいくらですか？{o}", "{v}の株価を見せて。{o}"],
      "en for training": [
          "what is the stock price of {v}{o}", "Stock price of {v}{o}?",
          "Show me the stock price of {v}{o}.", "How much is {v} stock{o}?",
          "Check the share price of {v}{o}.", "Give me the stock price of {v}{o}.",
          "How much does a share of {v} cost{o}?", "What does {v} stock cost{o}?"],
      "ja for training": [
          "{v}の株価{o}", "{v}の株価を調べて。{o}", "{v}の株価はいくら？{o}", "{v}の株価を教えてください。{o}", "{v}株の値段は？{o}",
          "{v}の株価を見たい。{o}", "{v}の株価を見せてください。{o}"],
      "en unseen": [
          "How high is the stock of {v}{o}?", "At what price does {v} trade{o}?",
          "I want the stock price of {v}{o}."],
      "ja unseen": [
          "{v}の株価を知りたい。{o}", "{v}の株価はどうですか？{o}", "{v}の株価を確認して。{o}"]}),
    (["play_music", "play_song", "start_song", "music_player"],
     "Play a song", "曲を再生する", ["title", "query"], ["name"],
     {"en": ["Play {v}{o}.", "Play the song {v}{o}.", "I want to hear {v}{o}.",
             "Now I want to listen to {v}{o}."],
      "ja": ["{v}を再生して。{o}", "{v}という曲をかけて。{o}", "{v}を聞きたい。{o}", "{v}をかけて。{o}"],
      "en for training": [
          "play {v}{o}", "Start the song {v}{o}.", "Please play {v}{o}.", "Let me hear {v}{o}.",
          "Can you play {v}{o}?", "Play me {v}{o}.", "Put the song {v} on{o}.", "Put {v} on{o}.",
          "Put on the song {v}{o}.", "Please put on {v}{o}.", "Put on some {v}{o}.",
          "Can you put on {v}{o}?", "Now put on {v}{o}.", "Turn on {v}{o}.",
          "Let me listen to {v}{o}.", "I'd like to listen to {v}{o}.", "Let us listen to {v}{o}.",
          "We want to listen to {v}{o}.", "Can I listen to {v}{o}?", "listen to {v}{o}",
          "Now I would love to hear {v}{o}.", "Now I want the song {v}{o}.",
          "It is time to listen to {v}{o}.", "Today I feel like listening to {v}{o}."],
      "ja for training": [
          "{v}を流して。{o}", "{v}を聴かせて。{o}", "{v}をかけてください。{o}", "曲は{v}でお願い。{o}", "{v}という曲を再生して。{o}",
          "{v}を聞かせて。{o}",
          "{v}をかけてもらえますか？{o}", "{v}をかけてほしい。{o}", "次は{v}をかけて。{o}", "{v}を流してください。{o}",
          "曲をかけて：{v}。{o}"],
      "en unseen": [
          "Next song: {v}{o}.", "I would like to hear {v}{o}.", "Let's hear {v}{o}."],
      "ja unseen": [
          "{v}をお願い、音楽で。{o}", "{v}を聞こう。{o}", "音楽は{v}で。{o}"]}),
]

# What a question has that may seem to be one for these tools, natural ones by their first name,
# composed ones by their noun.
SPOKEN = [
    ({"get_weather", "weather", "temperature"},
     ["weather", "forecast", "rain", "sunny", "cold", "umbrella", "天気", "空模様", "雨", "晴",
      "気温"]),
    ({"get_time", "time"}, ["time", "late is it", "hour", "何時", "時刻", "時間"]),
    ({"search", "document"}, ["search", "look up", "look for", "find", "検索", "調べ", "探し"]),
    ({"send_email", "email", "message"},
     ["send", "mail", "message", "write to", "letter", "inform", "contact",
      "メール", "メッセージ", "連絡", "手紙"]),
    ({"set_timer", "timer", "alarm", "reminder"},
     ["timer", "countdown", "wake", "remind", "minutes", "タイマー", "分計", "知らせ"]),
    ({"book_table", "table"},
     ["table", "seat", "restaurant", "eat", "dinner", "lunch", "dine", "book", "reserv",
      "席", "レストラン", "予約", "食事"]),
    ({"get_stock_price", "stock", "price"}, ["stock", "share", "price", "株", "値段"]),
    ({"play_music", "song", "playlist"},
     ["play", "song", "track", "music", "hear", "listen", "stream", "sing", "曲", "再生",
      "聞", "歌", "音楽"]),
]

for _language in ("en", "ja"):
    REQUEST[_language + COMPOSED] = composed_requests.REQUEST[_language]
    for _names, *_, _asked in NATURAL:
        _asked[_language + COMPOSED] = composed_requests.NATURAL[_names[0]][_language]
del _language, _names, _asked
