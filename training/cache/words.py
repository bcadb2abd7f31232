"""The words that the generator knows: what may stand for what, and what never may. Data.

Written for this project, from general knowledge of the language; copied from no list.
"""
# ruff: noqa: E501

from __future__ import annotations

SAME: tuple[tuple[str, ...], ...] = (
    ("buy", "purchase"), ("start", "begin"), ("quick", "fast"), ("quickly", "fast"), ("big", "large"),
    ("get", "obtain"), ("fix", "repair"), ("help", "assist"), ("job", "position"), ("error", "mistake"),
    ("movie", "film"), ("movies", "films"), ("car", "automobile"), ("doctor", "physician"), ("kids", "children"),
    ("kid", "child"), ("smart", "intelligent"), ("rich", "wealthy"), ("famous", "well-known"), ("happen", "occur"),
    ("happens", "occurs"), ("phone", "mobile"), ("earn", "make"), ("improve", "get better at"),
    ("prepare for", "get ready for"), ("lose weight", "shed weight"), ("choose", "pick"), ("difficult", "hard"),
    ("easy", "simple"), ("easiest", "simplest"), ("cost", "price"), ("cheap", "inexpensive"), ("select", "choose"),
    ("delete", "remove"), ("reply", "answer"), ("occupation", "profession"), ("allowed", "permitted"),
    ("required", "needed"), ("need", "require"), ("use", "utilise"), ("speak", "talk"), ("study", "learn"),
    ("important", "significant"), ("main", "primary"), ("reason", "cause"), ("reasons", "causes"),
    ("advantages", "benefits"), ("disadvantages", "drawbacks"), ("difference", "distinction"),
    ("differences", "distinctions"), ("suitable", "appropriate"), ("terrible", "awful"), ("scared", "afraid"),
    ("pain", "ache"), ("medicine", "medication"), ("illness", "disease"),
    ("stomach", "belly"), ("transfer", "send"), ("money", "funds"), ("bill", "invoice"), ("reset", "change"),
    ("broken", "not working"), ("stolen", "nicked"), ("delivered", "shipped"), ("arrive", "come"),
    ("charged", "billed"), ("identify", "recognise"), ("currently", "right now"), ("every day", "daily"),
    ("every week", "weekly"), ("once a year", "yearly"), ("approximately", "about"),
    ("a lot of", "many"), ("become", "turn into"), ("college", "university"), ("holiday", "vacation"),
    ("flat", "apartment"), ("lawyer", "attorney"), ("country", "nation"), ("company", "firm"),
    ("companies", "firms"), ("build", "construct"), ("show", "display"), ("explain", "describe"),
    ("solve", "work out"), ("find out", "discover"), ("increase", "raise"), ("decrease", "reduce"),
    ("stop", "quit"), ("huge", "enormous"), ("weird", "strange"), ("website", "site"),
    ("websites", "sites"), ("app", "application"), ("photo", "picture"), ("photos", "pictures"),
    ("maths", "mathematics"), ("TV", "television"), ("USA", "United States"), 
    ("UK", "United Kingdom"), ("info", "information"), ("laptop", "notebook computer"), ("password", "passcode"),
)  # fmt: skip
"""Phrases that may stand for each other in most questions: a change of one keeps the meaning."""

APART: tuple[tuple[str, ...], ...] = (
    ("increase", "decrease"), ("raise", "lower"), ("buy", "sell", "rent"), ("open", "close", "freeze"),
    ("deposit", "withdrawal"), ("deposit", "withdraw"), ("credit", "debit"), ("send", "receive"),
    ("lend", "borrow"), ("before", "after", "during"), ("gain", "lose"), ("best", "worst"), ("more", "less"),
    ("most", "least"), ("first", "last", "second"), ("minimum", "maximum", "average"), ("high", "low"),
    ("higher", "lower"), ("highest", "lowest"), ("longest", "shortest"), ("early", "late"),
    ("old", "new", "young"), ("hot", "cold"), ("enable", "disable"),
    ("activate", "deactivate", "cancel", "replace"), ("add", "remove", "update"), ("install", "uninstall"),
    ("upload", "download"), ("import", "export"), ("accept", "reject"), ("allow", "prevent"), ("love", "hate"),
    ("advantages", "disadvantages"), ("pros", "cons"), ("benefits", "risks", "side effects"),
    ("causes", "symptoms", "treatments", "complications"), ("cause", "prevent", "treat", "cure"),
    ("man", "woman"), ("men", "women"), ("boy", "girl"), ("boys", "girls"), ("boyfriend", "girlfriend"),
    ("husband", "wife"), ("mother", "father", "brother", "sister"), ("male", "female"), ("black", "white", "red"),
    ("inside", "outside"), ("online", "offline", "in person"), ("domestic", "international"),
    ("import", "export"), ("public", "private"), ("legal", "illegal"), ("safe", "dangerous"),
    ("possible", "impossible"), ("true", "false"), ("mandatory", "optional"), ("free", "paid"),
    ("savings", "checking", "joint", "business"), ("mortgage", "car loan", "student loan", "personal loan"),
    ("stocks", "bonds", "options", "futures", "ETFs"), ("stock", "bond", "fund"), ("gross", "net"),
    ("revenue", "profit", "debt", "cash flow", "expenses"), ("asset", "liability"), ("fixed", "variable"),
    ("long-term", "short-term"), ("call", "put"), ("bull", "bear"), ("dividend", "interest", "fee"),
    ("weekly", "monthly", "yearly", "daily"), ("today", "tomorrow", "yesterday"),
    ("this week", "last week", "next week"), ("this month", "last month", "next month"),
    ("this year", "last year", "next year"), ("morning", "evening", "afternoon"), ("weekdays", "weekends"),
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ("January", "February", "April", "June", "July", "August", "September", "October",
     "November", "December"),
    ("hours", "days", "weeks", "months", "years", "minutes"), ("hour", "day", "week", "month", "year"),
    ("dollars", "euros", "pounds", "rupees", "yen"), ("USD", "EUR", "GBP", "INR", "JPY"),
    ("kg", "pounds", "grams"), ("miles", "kilometers", "meters"), ("Celsius", "Fahrenheit"), ("mg", "ml", "g"),
    ("Python", "Java", "JavaScript", "C++", "Ruby", "PHP"), ("iPhone", "Android"), ("iOS", "Android", "Windows"),
    ("Windows", "Mac", "Linux"), ("Facebook", "Instagram", "Twitter", "WhatsApp", "Snapchat"),
    ("Google", "Apple", "Microsoft", "Amazon"), ("Visa", "Mastercard", "American Express"),
    ("Apple Pay", "Google Pay", "PayPal"), ("India", "China", "Japan", "Germany", "Canada", "Australia", "France"),
    ("Indian", "Chinese", "Japanese", "German", "Canadian", "American", "French"),
    ("London", "Paris", "New York", "Mumbai", "Tokyo", "Sydney"), ("Delhi", "Mumbai", "Bangalore", "Chennai"),
    ("English", "Spanish", "French", "German", "Hindi"), ("USA", "UK", "Canada", "Australia"),
    ("Trump", "Clinton", "Obama"), ("Christians", "Muslims", "Hindus", "Jews"), ("math", "physics", "chemistry"),
    ("engineering", "medicine", "law"), ("undergraduate", "graduate", "PhD"), ("school", "college"),
    ("cat", "dog"), ("cats", "dogs"), ("tea", "coffee"), ("water", "milk"), ("sugar", "salt"),
    ("breakfast", "lunch", "dinner"), ("earth", "moon", "sun", "Mars"), ("north", "south", "east", "west"),
    ("headache", "fever", "cough", "rash"), ("ibuprofen", "aspirin", "paracetamol", "amoxicillin"),
    ("antibiotics", "painkillers", "steroids", "antidepressants"), ("diabetes", "asthma", "hypertension", "cancer"),
    ("pregnant", "breastfeeding"), ("adults", "children", "infants"), ("blood pressure", "blood sugar", "cholesterol"),
    ("arm", "leg", "neck", "knee", "shoulder"), ("heart", "liver", "kidney", "lung"),
    ("PIN", "password", "username"), ("physical", "virtual"), ("incoming", "outgoing"), ("pending", "declined", "failed"),
    ("refund", "chargeback"), ("fee", "limit", "deadline"), ("limits", "fees", "requirements"),
    ("above", "below"), ("with", "without"), ("always", "never"),
    ("everyone", "no one"), ("win", "lose"), ("pass", "fail"), ("marry", "divorce"), ("import", "ban"),
    ("employee", "employer"), ("buyer", "seller"), ("tenant", "landlord"),
    ("teacher", "student"), ("lender", "borrower"), ("sender", "recipient"), ("parent", "child"),
)  # fmt: skip
"""Phrases of one kind that never mean the same: a change of one is another question."""

OPENINGS: tuple[tuple[str, ...], ...] = (
    ("How do I", "How can I", "What is the best way to", "How should I", "How to", "How does one", "What's the way to",
     "I want to know how to", "What steps do I take to", "Could you tell me how to", "Is there a way to"),
    ("How do you", "How can you", "How do I", "What is the way to"),
    ("What is the best way to", "What's the best way to", "How do I best", "How can I best"),
    ("What is", "What's", "Can you tell me what is", "I would like to know what is"),
    ("What are", "Which are", "Can you tell me what are", "Could you list"),
    ("What are some", "What are", "Can you name some", "Which are some"),
    ("What is the meaning of", "What does it mean by", "What is meant by"),
    ("Why do", "What is the reason that", "For what reason do", "How come"),
    ("Why is", "What is the reason why", "How come"),
    ("Can I", "Is it possible to", "Am I able to", "May I", "Is it ok to", "Could I"),
    ("Should I", "Is it a good idea to", "Would it be wise to", "Is it advisable to"),
    ("Is there any", "Is there a", "Does there exist any"),
    ("Do I need to", "Is it necessary to", "Must I", "Do I have to", "Am I required to"),
    ("How long does it take to", "How much time does it take to", "How much time is needed to"),
    ("How much does it cost to", "What does it cost to", "What is the cost to", "What's the price to"),
    ("Where can I", "Where do I", "Which place can I", "Where is it possible to"),
    ("I need to", "I want to", "I'd like to", "I have to"),
    ("What happens if", "What will happen if", "What would happen if"),
    ("Tell me", "Please tell me", "Can you tell me", "I'd like to know"),
    ("Which is the best", "What is the best", "What's the best"),
    ("How many", "What number of", "What is the number of"),
)  # fmt: skip
"""Beginnings that ask the same way."""

OTHER_OPENINGS: tuple[tuple[str, ...], ...] = (
    ("How do I", "Why do I", "When do I", "Should I", "Why can't I", "Do I need to", "How often do I",
     "How long does it take to", "How much does it cost to", "What happens if I", "Who can"),
    ("Can I", "How do I", "Should I", "Why can't I", "When can I", "Must I"),
    ("Should I", "Can I", "How do I", "Why should I"),
    ("How can I", "Why can't I", "When can I", "Should I", "What happens if I"),
    ("What is", "Who invented", "Why is", "How does one use", "Where is", "When is"),
    ("What are", "Who are", "Where are", "Why are", "How many are"),
    ("Why do", "How do", "When do", "Where do"),
    ("Why is", "Where is", "When is", "How is", "Who is"),
    ("Where can I", "When can I", "Why can't I", "How can I"),
    ("How long does it take to", "How much does it cost to", "How do I", "Is it hard to"),
    ("How many", "How old are", "How often do", "Which"),
    ("What is the best way to", "What is the worst way to", "Why is it hard to", "How long does it take to"),
)  # fmt: skip
"""Beginnings that ask something else each."""

BEFORE = ("hi, ", "hello, ", "please help, ", "hey ", "quick question: ", "sorry, ", "i was wondering, ", "ok so ")
AFTER = (" please", " thanks", " thank you", " any idea", " asap", " i need to know", " can you help")

ORDER_FREE = ("and", "or", "versus", "vs")
"""Words whose two sides may be exchanged."""

STOP = frozenset(
    "a an the is are was were be been do does did can could should would will shall may might must i you he she it we "  # noqa: SIM905
    "they me my your his her its our their this that these those of in on at to for from with by about as into and or "
    "but if so not no what which who whom whose when where why how there any some one best way get have has had than "
    "then am i'm don't it's what's more most very just only also too over up out please tell know".split()
)
"""Words that name nothing."""
