"""Owns the plain lists that exercises draw from: common words, names, places, topics.

Data alone. Which side of the split an entry belongs to is decided in split.py.
"""
# Small words that stand between others in a text. They belong to both sides.
GLUE = """the a my your is are was has and or in on of to with for from not very this it we they
you""".split()
GLUE_JA = "は が を の に と も で へ や から まで です でした ます ました ている して な ね".split()
ENGLISH = """table chair house garden river mountain window door kitchen bread butter cheese apple
banana orange lemon cherry grape peach potato tomato onion carrot pepper salt sugar water milk
coffee tea juice glass plate spoon fork knife paper pencil book letter story music song dance
guitar piano drum violin flute horse tiger lion eagle monkey rabbit mouse dog cat bird fish snake
frog turtle sheep goat cow pig duck chicken flower tree leaf grass forest desert ocean island
beach cloud rain snow storm wind thunder summer winter spring autumn morning evening night
yesterday today tomorrow monday friday sunday january march april june july august october
school teacher student doctor nurse farmer baker driver pilot sailor soldier king queen prince
castle bridge tower street village city country planet rocket moon star sun light shadow fire
stone sand metal iron silver gold copper diamond engine wheel train plane boat ship bicycle car
bus truck ticket market shop money price coin bank office computer keyboard screen phone camera
picture movie radio clock watch calendar number question answer problem science history nature
body head hand foot finger heart brain eye ear nose mouth hair shoulder knee family mother father
brother sister uncle aunt cousin baby child friend neighbour happy angry quiet noisy clever brave
lazy gentle strong weak heavy bright dark early late quick slow young old warm cold hungry thirsty
green blue red yellow purple white black brown pink grey silver round square narrow wide deep
shallow simple strange modern ancient hello world strawberry elephant giraffe penguin dolphin
butterfly umbrella bottle basket blanket pillow mirror carpet ladder hammer needle button pocket
jacket shirt trousers shoe sock hat glove scarf ring necklace candle lantern battery
magnet""".split()
# What people type besides things. Half of it are whole tokens, whose letters only training can
# tell: these words belong to both sides and stand among others.
EVERYDAY = """accept agree allow answers appear arrive ask bake bathe become begin believe belong
blow borrow break breathe bring build burn buy call care carry catch change choose clean climb come
complain continue cook cost count cry cut decide deliver describe dig disappear draw dream drink
drive drop earn eat enjoy enter escape explain fall feed feel fight fill finish fit fix float fly
fold follow forget forgive freeze gather give go going gone grow guess hang happen hate hear help
hide hit hold hope hurry hurt imagine improve invite join jump keep kick kill kiss knock know laugh
lead learn leave lend let lie lift like listen live lose make marry mean meet melt miss mix need nod
notice obey offer owe paint pass pay pick plan point pour pray prefer prepare press pretend promise
prove pull push put quit reach receive refuse remain remember rent repair replace rest return ride
rise roll run say see seem sell separate serve sew shake shine shout show shut sing sink sit ski
smell smile sneeze solve speak spell spend spill spread stand stay steal stick stir stretch study
succeed suffer suggest swim swing take talk taste teach tear tell thank think throw tie touch travel
trust try turn understand use visit wait wake walk want warn wash waste wear weigh welcome win wish
wonder work worry wrap write yawn able afraid alive alone asleep awake bad beautiful best better big
bitter boring broken busy calm careful cheap cheerful clear close common correct crazy curious curly
cute dangerous dead dear different difficult dirty double dry dull dusty eager easy elegant empty
equal excellent expensive extra famous fancy far fast fat few final fine flat foreign free fresh
friendly full funny general glad good grateful great guilty handsome hard healthy helpful high holy
honest hot huge human ill important impossible innocent jealous jolly kind large last lonely long
loose loud lovely low lucky mad main many married maybe mild most much neat nervous new nice normal
odd official only other own patient perfect plain pleasant polite poor possible pretty private
proper proud public pure rare raw ready real recent regular rich right ripe rough rude sad safe
salty same scared secret serious several sharp short shy sick silent silly similar single slim small
smart smooth soft solid sore sour special steep sticky stiff straight stupid such sudden sure sweet
tall tame terrible thick thin tidy tight tiny tired total tough true ugly usual vast weird whole
wild wise wonderful wooden wrong above across after again against ago all almost along already also
always among another any anybody anything anywhere around at away back because been before behind
being below beneath beside between beyond both but by can cannot could did do does done down during
each either else enough even ever every everybody everyone everything everywhere except first had
half he her here hers herself him himself his how however i if indeed instead into itself just least
less little me might mine more must myself near nearly neither never next nobody none nor nothing
now nowhere off often oh okay once one our ours out over perhaps please quite rather really second
she should since so some somebody someone something sometimes somewhere soon still than that their
them themselves then there therefore these third those though through thus till together too toward
twice two three four five six seven eight nine ten eleven twelve twenty hundred thousand under
unless until up upon us usually well were what whatever when where which while who whom whose why
will within without would yes yet yourself accident adventure advice age air airport animal area arm
army art bag ball bar bath bed bell belt bill birth bit block blood board bone boss bottom box boy
branch breakfast brick business camp card case cause cell centre chance choice circle class climate
clothes coat colour company corner course court crowd cup customer dad danger daughter day deal
death debt degree desk dinner dirt disease dish district dollar dress dust duty earth east edge
education effect egg energy enemy event evidence example exercise face fact farm fashion fault fear
festival field film floor flour fog food form friends fruit fun future game gift girl goal god grain
grandmother ground group guest gun hall health heat hill hole holiday home honey hospital hotel hour
husband ice idea inch income insect interest job journey judge jungle key kid kingdom lake lamp land
language law lawyer leader leg lesson level life line lip list lunch machine magic mail man manager
map mark meal meat medicine member memory message middle midnight minute mistake mom month mud
muscle museum nail nation neck nest news noise noon north note object officer oil opinion order page
pain pair palace pan parents park part party past path peace pen people person pet pie piece pipe
place plant player poem police pool post pot power prison prize product profit program project
purpose quarter queue race railway reason record religion report result rice risk road robot rock
role roof room root rope rule salad sale sauce scene seat seed sense sentence shape shelf side sign
silk size skill skin sky sleep smoke soap soil son sort sound soup south space speech speed sport
spot stage stairs stamp state station step stomach stop store stranger stream style subject success
suit surprise swallow system tail target task tax team test text theatre theory thing thought throat
thumb time tin tip title toe tongue tool tooth top town toy trade traffic trick trip trouble truth
type uniform universe valley value video view visitor voice volcano wall war wave way weather week
weekend weight west wheat wife wing wire woman wood word worker year zero zoo""".split()
JAPANESE = """いぬ ねこ とり うま さかな やま かわ うみ そら ほし つき はな くさ もり みち まち いえ
まど つくえ いす かみ ほん えき みせ くつ ぼうし かさ とけい でんわ くるま ふね りんご みかん ぶどう
もも なし すいか いちご たまご こめ みそ しお さとう みず おちゃ あさ ひる よる はる なつ あき ふゆ
さくら もみじ たいよう かぜ あめ ゆき くも にわ はし しま いけ たに テレビ ラジオ カメラ パソコン
バナナ レモン トマト メロン パン ケーキ コーヒー ホテル バス タクシー ピアノ ギター ノート ペン
犬 猫 鳥 馬 魚 山 川 海 空 星 月 花 森 道 町 家 本 駅 店 車 船 朝 昼 夜 春 夏 秋 冬 桜 風 雨 雪
東京 大阪 京都 学校 先生 学生 電車 時計 電話 会社 音楽 映画 写真 料理 野菜 果物 天気 新聞 手紙 友達
家族 仕事 旅行 公園 図書館 病院 銀行 世界 日本 時間 言葉 名前 問題 自然 動物 植物 机 窓 鍵 傘
ありがとう おはよう こんばんは さようなら すみません はい いいえ たべる のむ いく くる みる きく よむ かく
はなす ねる おきる あるく はしる およぐ つくる あそぶ まつ もつ かう うる しる わかる おもう わらう なく
おおきい ちいさい あたらしい ふるい たかい ひくい あつい さむい うれしい かなしい たのしい おいしい きれい
しずか げんき とても すこし たくさん いつも ときどき もう まだ きのう きょう あした いま ここ そこ どこ
だれ なに わたし あなた かれ みんな ひと こども おとこ おんな あたま みみ くち からだ こころ ちから あお あか
しろ くろ みぎ ひだり うえ した なか そと まえ うしろ ひとつ ふたつ みっつ""".split()
NAMES = """Anna Tom Maria John Emma Peter Julia David Sofia Lukas Clara Felix Nina Oscar Lena Paul
Alice Bob Carol Daniel Eva Frank Grace Henry Irene Jack Karen Leo Mia Noah Olivia Patrick Rosa
Simon Tina Victor Wendy Yusuf Zoe Marco Elena Hugo Laura Kenji Yuki Haruto Aiko Priya Arjun Fatima
Omar Chen Mei Ivan Olga Pedro Lucia Ahmed Sara Ben Kim Max Ruth Adam Nora Sam""".split()
NAMES_JA = """太郎 花子 健太 美咲 翔 さくら 陽子 一郎 次郎 愛 直樹 恵子 大輔 由美 誠 真由美 隆 明 和子
裕子 田中 佐藤 鈴木 高橋 伊藤 渡辺 山本 中村 小林 加藤 吉田 山田 はると ゆい あおい りく ひなた
ケン マリア アンナ トム エマ ジョン""".split()
CITIES = """Paris London Berlin Rome Madrid Vienna Tokyo Osaka Kyoto Lisbon Oslo Dublin Prague
Athens Cairo Delhi Seoul Boston Chicago Denver Toronto Sydney Zurich Geneva Munich Hamburg Milan
Naples Warsaw Helsinki Nairobi Lima Bogota Havana Dallas Miami Seattle Portland Bangkok Hanoi
Manila Jakarta Dubai Beijing Shanghai Amsterdam Brussels Copenhagen Stockholm Budapest""".split()
CITIES_JA = """東京 大阪 京都 札幌 仙台 名古屋 神戸 福岡 広島 奈良 横浜 長崎 金沢 新潟 静岡 熊本 那覇
千葉 岡山 高松 パリ ロンドン ベルリン ローマ ソウル""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
DAYS_JA = "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日".split()
ITEMS = """apples books pencils chairs lamps tickets bottles shirts cups plates eggs batteries
cameras phones oranges flowers lemons candles keys stamps boxes bags""".split()
ITEMS_JA = "りんご 本 鉛筆 椅子 切符 卵 皿 電池 花 みかん 箱 鍵 切手 傘 かばん 茶碗".split()
JOBS = """teacher doctor baker pilot farmer nurse painter singer lawyer engineer cook driver
writer dentist plumber""".split()
JOBS_JA = "教師 医者 農家 看護師 画家 歌手 弁護士 技術者 料理人 運転手 作家 大工".split()

TOPICS = """the moon|black holes|Napoleon|cheese|football|the history of Rome|quantum physics|
climate change|dinosaurs|cooking pasta|chess|Shakespeare|the stock market|photosynthesis|volcanoes|
electric cars|machine learning|the French Revolution|gardening|jazz|yoga|coffee|Mars|bees|poetry|
the Olympics|democracy|gravity|vaccines|the Great Wall|penguins|bread|the internet|Python|Rust|
databases|encryption|Linux|love|happiness|war and peace|taxes|insurance|my cat|my homework|
a healthy breakfast|back pain|sleep|learning German|the weather|Einstein|Mozart|Picasso|the ocean|
solar energy|the human brain|DNA|whales|tennis|a birthday party|a job interview|my garden|rice|
the meaning of life|artificial intelligence|ghosts|dragons|a lonely robot|the sea|winter|spring|
friendship|time travel|the Roman Empire|World War II|the pyramids|Buddhism|philosophy|economics|
inflation|mountains|hiking|photography|movies|a good book|my boss|a long flight|Japan|France|
Canada|Brazil|New York|the Beatles|baseball|sushi|pizza|chocolate|wine|cats and dogs|elephants|
bicycles|a leaking tap|headaches|the immune system|prime numbers|algebra|statistics|the sun|
a wedding speech|a cover letter|a cold|my computer|the news|elections|kangaroos|tea""".replace(
    "\n", "").split("|")
TOPICS_JA = """月|ブラックホール|織田信長|チーズ|サッカー|日本の歴史|量子力学|地球温暖化|恐竜|カレーの作り方|
将棋|夏目漱石|株式市場|光合成|火山|電気自動車|機械学習|フランス革命|園芸|ジャズ|ヨガ|コーヒー|火星|蜂|俳句|
オリンピック|民主主義|重力|ワクチン|万里の長城|ペンギン|パン|インターネット|プログラミング|データベース|暗号|
恋愛|幸せ|税金|保険|猫|宿題|朝ごはん|腰痛|睡眠|英語の勉強|天気|アインシュタイン|モーツァルト|海|太陽光発電|
脳|遺伝子|鯨|テニス|誕生日会|面接|庭|お米|人生の意味|人工知能|幽霊|竜|ロボット|冬|春|友情|ローマ帝国|
ピラミッド|仏教|哲学|経済|物価|登山|写真|映画|面白い本|上司|北海道|フランス|京都|野球|寿司|ラーメン|
チョコレート|ワイン|象|自転車|頭痛|素数|統計|太陽|結婚式の挨拶|風邪|パソコン|ニュース|選挙|お茶|
富士山|温泉|着物|アニメ|地震|台風|電車|大学""".replace("\n", "").split("|")
PLACES = """France Germany Japan Italy Spain Brazil Canada Australia India China Egypt Kenya Peru
Norway Sweden Poland Greece Turkey Mexico Chile Portugal Ireland Finland""".split()
PLACES_JA = "フランス ドイツ イタリア スペイン ブラジル カナダ インド 中国 韓国 エジプト タイ".split()

# Every ideograph of the lists. Invented words are drawn from them too: an entry of the held-out
# side may hold one that no entry of the training side has, and a model cannot write what it has
# never seen.
KANJI = "".join(sorted({c for entry in JAPANESE + NAMES_JA + CITIES_JA + DAYS_JA + ITEMS_JA
                        + JOBS_JA + TOPICS_JA + PLACES_JA for c in entry if "一" <= c <= "鿿"}))
