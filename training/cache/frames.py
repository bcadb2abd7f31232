"""Questions made from a verb, a thing and a circumstance, many ways of saying each: banking, money, health, everyday.

Two sayings of one frame are the same question. Two frames that differ in one part are not, however alike they read.
Written for this project.
"""
# ruff: noqa: E501

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Area:
    """acts: for each act the ways to say it (bare, then the -ing form after a slash). things, circumstances: likewise.

    goes: which things an act is said of, by name; all where it is missing.
    """

    name: str
    acts: dict[str, tuple[str, ...]]
    things: dict[str, tuple[str, ...]]
    circumstances: dict[str, tuple[str, ...]]
    asks: tuple[str, ...]
    goes: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Frame:
    area: str
    ask: str
    act: str
    thing: str
    circumstance: str


ASKS: dict[str, tuple[str, ...]] = {
    "how": (
        "How do I {act} {thing}{circ}?", "How can I {act} {thing}{circ}?", "What is the way to {act} {thing}{circ}?",
        "What are the steps to {act} {thing}{circ}?", "I want to {act} {thing}{circ}, how do I do that?",
        "how to {act} {thing}{circ}", "Could you explain how to {act} {thing}{circ}?",
        "what do i need to do to {act} {thing}{circ}", "I need to {act} {thing}{circ}. How does that work?",
        "Please guide me through {acting} {thing}{circ}", "Can you walk me through how to {act} {thing}{circ}?",
        "What's the process for {acting} {thing}{circ}?", "trying to {act} {thing}{circ}, what do I do",
        "{acting} {thing}{circ} - how?", "Help me {act} {thing}{circ}", "instructions for {acting} {thing}{circ}",
    ),
    "cost": (
        "How much does it cost to {act} {thing}{circ}?", "What is the fee to {act} {thing}{circ}?",
        "Is there a charge for {acting} {thing}{circ}?", "what do you charge to {act} {thing}{circ}",
        "Will I be charged if I {act} {thing}{circ}?", "What fees apply when I {act} {thing}{circ}?",
        "Do I have to pay anything to {act} {thing}{circ}?", "price for {acting} {thing}{circ}",
        "Is {acting} {thing}{circ} free?",
    ),
    "time": (
        "How long does it take to {act} {thing}{circ}?", "How much time will {acting} {thing}{circ} take?",
        "how long until i can {act} {thing}{circ}", "How many days does it take to {act} {thing}{circ}?",
        "What is the processing time to {act} {thing}{circ}?", "If I {act} {thing}{circ}, how long does it take?",
        "time needed to {act} {thing}{circ}",
    ),
    "why_not": (
        "Why can't I {act} {thing}{circ}?", "Why am I unable to {act} {thing}{circ}?",
        "I tried to {act} {thing}{circ} and it doesn't work, why?", "What is stopping me from {acting} {thing}{circ}?",
        "why wont it let me {act} {thing}{circ}", "What could be the reason that I cannot {act} {thing}{circ}?",
        "{acting} {thing}{circ} fails every time, what's the reason?",
    ),
    "where": (
        "Where can I {act} {thing}{circ}?", "Where do I go to {act} {thing}{circ}?",
        "which page do i use to {act} {thing}{circ}", "In which place can I {act} {thing}{circ}?",
        "Where is the option to {act} {thing}{circ}?",
    ),
    "needs": (
        "What documents do I need to {act} {thing}{circ}?", "Which papers are required to {act} {thing}{circ}?",
        "what paperwork is needed for {acting} {thing}{circ}", "What do I have to bring to {act} {thing}{circ}?",
        "Documents required to {act} {thing}{circ}?",
    ),
    "may": (
        "Can I {act} {thing}{circ}?", "Is it possible to {act} {thing}{circ}?", "Am I allowed to {act} {thing}{circ}?",
        "Do you let customers {act} {thing}{circ}?", "is {acting} {thing}{circ} allowed", "Could I {act} {thing}{circ}?",
        "Would it be possible for me to {act} {thing}{circ}?",
    ),
    "then": (
        "What happens if I {act} {thing}{circ}?", "What will happen when I {act} {thing}{circ}?",
        "What are the consequences of {acting} {thing}{circ}?", "if i {act} {thing}{circ} what happens",
        "What follows after {acting} {thing}{circ}?",
    ),
    "should": (
        "Should I {act} {thing}{circ}?", "Is it a good idea to {act} {thing}{circ}?",
        "Is it wise to {act} {thing}{circ}?", "Would you recommend {acting} {thing}{circ}?",
        "does it make sense to {act} {thing}{circ}", "Is {acting} {thing}{circ} advisable?",
    ),
    "limit": (
        "What is the limit to {act} {thing}{circ}?", "Is there a limit on {acting} {thing}{circ}?",
        "How often can I {act} {thing}{circ}?", "how many times may i {act} {thing}{circ}",
    ),
    "undo": (
        "I did {act} {thing}{circ} by mistake, how do I undo it?", "How can I reverse {acting} {thing}{circ}?",
        "Can you undo it if I {act} {thing}{circ}?", "undo {acting} {thing}{circ}",
    ),
    "why": (
        "Why should I {act} {thing}{circ}?", "What is the point of {acting} {thing}{circ}?",
        "What are the benefits of {acting} {thing}{circ}?", "why would anyone {act} {thing}{circ}",
    ),
}  # fmt: skip
"""What is asked about an act; every way of saying it."""

TIMES = {
    "": ("",),
    "today": (" today", " right now, today"),
    "tomorrow": (" tomorrow", " by tomorrow"),
    "weekend": (" on the weekend", " on a Saturday or Sunday", " at weekends"),
    "abroad": (" while abroad", " from another country", " when I'm travelling overseas"),
    "phone": (" by phone", " over the phone", " by calling you"),
    "app": (" in the app", " through the mobile app", " using the app on my phone"),
    "branch": (" at a branch", " in person at a branch"),
    "no_id": (" without ID", " if I have no identification"),
    "under18": (" if I am under 18", " as a minor"),
    "joint": (" for a joint account", " on an account I share with someone"),
    "business": (" as a business", " for my company"),
    "30": (" within 30 days", " in the first 30 days"),
    "60": (" within 60 days", " in the first 60 days"),
    "500": (" over $500", " of more than 500 dollars"),
    "5000": (" over $5,000", " of more than 5000 dollars"),
    "2023": (" in 2023", " for the year 2023"),
    "2024": (" in 2024", " for the year 2024"),
}

AREAS: tuple[Area, ...] = (
    Area(
        "banking",
        {
            "open": ("open/opening", "set up/setting up", "start/starting"),
            "close": ("close/closing", "shut down/shutting down", "terminate/terminating"),
            "freeze": ("freeze/freezing", "lock/locking", "temporarily block/temporarily blocking"),
            "unfreeze": ("unfreeze/unfreezing", "unlock/unlocking", "unblock/unblocking"),
            "order": ("order/ordering", "request/requesting", "apply for/applying for"),
            "replace": ("replace/replacing", "get a replacement for/getting a replacement for"),
            "cancel": ("cancel/cancelling", "call off/calling off", "stop/stopping"),
            "activate": ("activate/activating", "enable/enabling", "switch on/switching on"),
            "dispute": ("dispute/disputing", "contest/contesting", "challenge/challenging"),
            "change": ("change/changing", "update/updating", "modify/modifying"),
            "find": ("find/finding", "look up/looking up", "see/seeing"),
            "increase": ("increase/increasing", "raise/raising", "bump up/bumping up"),
            "decrease": ("lower/lowering", "reduce/reducing", "bring down/bringing down"),
            "send": ("send/sending", "make/making", "transfer/transferring"),
            "receive": ("receive/receiving", "accept/accepting", "get/getting"),
            "pay": ("pay/paying", "settle/settling"),
            "prepay": ("pay off early/paying off early", "repay ahead of schedule/repaying ahead of schedule"),
            "skip": ("skip/skipping", "miss/missing"),
            "download": ("download/downloading", "get a copy of/getting a copy of"),
            "report": ("report/reporting", "notify you about/notifying you about"),
            "share": ("share/sharing", "give someone access to/giving someone access to"),
        },
        {
            "checking": ("a checking account", "my checking account", "a current account"),
            "savings": ("a savings account", "my savings account"),
            "joint": ("a joint account", "my joint account", "an account shared with my partner"),
            "credit_card": ("a credit card", "my credit card"),
            "debit_card": ("a debit card", "my debit card", "my bank card"),
            "virtual_card": ("a virtual card", "my virtual card", "an online-only card"),
            "pin": ("my PIN", "the PIN of my card", "my card's PIN code"),
            "password": ("my online banking password", "the password for online banking"),
            "routing": ("my routing number", "the bank's routing number"),
            "account_number": ("my account number", "the number of my account"),
            "wire": ("a wire transfer", "a bank wire"),
            "international": ("an international transfer", "a transfer to another country", "a payment abroad"),
            "direct_debit": ("a direct debit", "a recurring payment", "an automatic payment"),
            "standing_order": ("a standing order", "a scheduled transfer"),
            "mortgage": ("my mortgage", "my home loan"),
            "car_loan": ("my car loan", "my auto loan"),
            "student_loan": ("my student loan", "my education loan"),
            "overdraft": ("my overdraft", "the overdraft on my account"),
            "credit_limit": ("my credit limit", "the limit on my credit card"),
            "atm_limit": ("my ATM withdrawal limit", "my daily cash limit"),
            "statement": ("my bank statement", "my account statement"),
            "tax_form": ("my tax form", "the tax document from the bank"),
            "address": ("my address", "the address you have on file"),
            "email": ("my email address", "the email on my account"),
            "phone_no": ("my phone number", "the mobile number on my account"),
            "charge": ("a charge I don't recognise", "an unknown charge", "an unauthorised transaction"),
            "refund": ("a refund", "my refund"),
            "cheque": ("a cheque", "a check"),
            "stolen": ("a stolen card", "my card being stolen"),
            "lost": ("a lost card", "the loss of my card"),
        },
        TIMES,
        ("how", "cost", "time", "why_not", "where", "needs", "may", "then", "should", "limit", "undo"),
        {
            "open": ("checking", "savings", "joint"), "close": ("checking", "savings", "joint", "credit_card"),
            "freeze": ("credit_card", "debit_card", "virtual_card", "checking"),
            "unfreeze": ("credit_card", "debit_card", "virtual_card", "checking"),
            "order": ("credit_card", "debit_card", "virtual_card", "cheque", "refund"),
            "replace": ("credit_card", "debit_card", "stolen", "lost"),
            "cancel": ("credit_card", "debit_card", "wire", "international", "direct_debit", "standing_order", "cheque"),
            "activate": ("credit_card", "debit_card", "virtual_card", "overdraft"), "dispute": ("charge", "refund"),
            "change": ("pin", "password", "address", "email", "phone_no", "standing_order", "direct_debit"),
            "find": ("pin", "routing", "account_number", "statement", "tax_form", "credit_limit"),
            "increase": ("credit_limit", "atm_limit", "overdraft"), "decrease": ("credit_limit", "atm_limit", "overdraft"),
            "send": ("wire", "international", "cheque"), "receive": ("wire", "international", "refund", "cheque"),
            "pay": ("mortgage", "car_loan", "student_loan", "overdraft"),
            "prepay": ("mortgage", "car_loan", "student_loan"), "skip": ("mortgage", "car_loan", "student_loan"),
            "download": ("statement", "tax_form"), "report": ("stolen", "lost", "charge"),
            "share": ("checking", "savings", "statement"),
        },
    ),
    Area(
        "investing",
        {
            "buy": ("buy/buying", "purchase/purchasing", "invest in/investing in"),
            "sell": ("sell/selling", "get out of/getting out of", "cash out/cashing out"),
            "short": ("short/shorting", "bet against/betting against"),
            "value": ("value/valuing", "work out the fair price of/working out the fair price of"),
            "hold": ("hold/holding", "keep/keeping"),
            "transfer": ("transfer/transferring", "move to another broker/moving to another broker"),
            "inherit": ("inherit/inheriting", "receive as an inheritance/receiving as an inheritance"),
            "deduct": ("deduct/deducting", "write off/writing off"),
        },
        {
            "stocks": ("stocks", "shares", "equities"), "bonds": ("bonds", "fixed-income securities"),
            "etfs": ("ETFs", "exchange-traded funds"), "mutual": ("mutual funds", "a mutual fund"),
            "options": ("call options", "calls"), "puts": ("put options", "puts"), "gold": ("gold", "gold bullion"),
            "bitcoin": ("bitcoin", "BTC"), "ether": ("ethereum", "ETH"), "reit": ("REITs", "real estate trusts"),
            "treasury": ("treasury bills", "T-bills"), "roth": ("a Roth IRA", "my Roth IRA"),
            "ira": ("a traditional IRA", "my traditional IRA"), "401k": ("a 401(k)", "my 401k"),
            "house": ("a rental property", "a house to rent out"),
        },
        {
            "": ("",), "2022": (" in 2022",), "2023": (" in 2023",), "rates_up": (" when interest rates rise",
            " if rates go up"), "rates_down": (" when interest rates fall", " if rates go down"),
            "recession": (" in a recession", " during an economic downturn"), "retire": (" for retirement",
            " to save for my retirement"), "year": (" for one year", " for 12 months"), "ten": (" for ten years",
            " for 10 years"), "tax": (" without paying tax", " tax-free"), "100": (" with $100", " with 100 dollars"),
            "10000": (" with $10,000", " with 10000 dollars"),
        },
        ("how", "cost", "may", "then", "should", "needs", "why", "where"),
        {"short": ("stocks", "bonds", "etfs", "bitcoin"), "deduct": ("house", "ira", "stocks"),
         "inherit": ("stocks", "house", "roth", "ira", "401k")},
    ),
    Area(
        "health",
        {
            "take": ("take/taking", "use/using"), "stop": ("stop taking/stopping", "come off/coming off"),
            "mix": ("drink alcohol with/drinking alcohol with", "have a drink while on/having a drink while on"),
            "double": ("take a double dose of/taking a double dose of", "take twice the dose of/taking twice the dose of"),
            "miss": ("miss a dose of/missing a dose of", "forget a dose of/forgetting a dose of"),
            "give": ("give my child/giving my child", "let my kid have/letting my kid have"),
            "store": ("store/storing", "keep at home/keeping at home"),
        },
        {
            "ibuprofen": ("ibuprofen", "Advil"), "paracetamol": ("paracetamol", "acetaminophen", "Tylenol"),
            "aspirin": ("aspirin",), "amoxicillin": ("amoxicillin",), "metformin": ("metformin",),
            "insulin": ("insulin", "my insulin injection"), "statin": ("statins", "a statin"),
            "prednisone": ("prednisone",), "vitd": ("vitamin D", "vitamin D supplements"),
            "iron": ("iron tablets", "iron supplements"), "pill": ("the birth control pill", "the contraceptive pill"),
            "antihist": ("antihistamines", "an antihistamine"), "melatonin": ("melatonin",), "zoloft": ("sertraline", "Zoloft"),
        },
        {
            "": ("",), "pregnant": (" while pregnant", " during pregnancy"), "nursing": (" while breastfeeding",
            " when nursing a baby"), "food": (" with food", " with a meal"), "empty": (" on an empty stomach",
            " without eating first"), "kidney": (" with kidney disease", " if my kidneys are bad"), "liver":
            (" with liver disease", " if my liver is damaged"), "night": (" at night", " before bed"), "morning":
            (" in the morning", " right after waking up"), "surgery": (" before surgery", " ahead of an operation"),
            "after": (" after surgery", " following an operation"), "bp": (" with high blood pressure",
            " if I have hypertension"), "asthma": (" with asthma", " as an asthmatic"), "fever": (" for a fever",
            " to bring a fever down"), "head": (" for a headache", " to treat a headache"),
        },
        ("may", "should", "then", "how", "limit", "why"),
        {"store": ("insulin", "amoxicillin", "vitd"), "give": ("ibuprofen", "paracetamol", "aspirin", "amoxicillin",
         "antihist", "melatonin", "vitd")},
    ),
    Area(
        "everyday",
        {
            "install": ("install/installing", "set up/setting up"), "remove": ("uninstall/uninstalling",
            "remove/removing"), "update": ("update/updating", "upgrade/upgrading"), "reset": ("reset/resetting",
            "restore to factory settings/restoring to factory settings"), "backup": ("back up/backing up",
            "make a copy of/making a copy of"), "sell": ("sell/selling",), "buy": ("buy/buying", "purchase/purchasing"),
            "clean": ("clean/cleaning",), "repair": ("repair/repairing", "fix/fixing"), "return": ("return/returning",
            "send back/sending back"), "insure": ("insure/insuring", "get insurance for/getting insurance for"),
            "rent": ("rent/renting", "hire/hiring"), "book": ("book/booking", "reserve/reserving"),
        },
        {
            "iphone": ("an iPhone", "my iPhone"), "android": ("an Android phone", "my Android phone"),
            "laptop": ("my laptop", "a laptop"), "windows": ("Windows 10",), "windows11": ("Windows 11",),
            "router": ("my router", "a wifi router"), "car": ("a car", "my car"), "bike": ("a bike", "my bicycle"),
            "flat": ("an apartment", "a flat"), "hotel": ("a hotel room", "a room in a hotel"), "flight": ("a flight",
            "a plane ticket"), "train": ("a train ticket", "a seat on the train"), "oven": ("my oven",), "fridge":
            ("my fridge", "my refrigerator"), "ps5": ("a PS5",), "xbox": ("an Xbox",),
        },
        {
            "": ("",), "online": (" online", " over the internet"), "shop": (" in a shop", " at a store"), "used":
            (" second-hand", " used"), "two": (" for two days",), "week": (" for a week", " for seven days"),
            "tomorrow": (" for tomorrow",), "cash": (" with cash", " paying cash"), "card": (" with a credit card",),
            "germany": (" in Germany",), "spain": (" in Spain",), "no_receipt": (" without a receipt",
            " if I lost the receipt"), "myself": (" myself", " on my own"),
        },
        ("how", "cost", "time", "why_not", "where", "may", "should", "needs"),
        {
            "install": ("windows", "windows11", "router"), "remove": ("windows", "windows11"), "update": ("iphone",
            "android", "windows", "windows11", "router"), "reset": ("iphone", "android", "laptop", "router", "ps5", "xbox"),
            "backup": ("iphone", "android", "laptop"), "clean": ("laptop", "oven", "fridge", "car"), "repair": ("iphone",
            "android", "laptop", "car", "bike", "oven", "fridge", "ps5", "xbox"), "insure": ("iphone", "car", "bike",
            "flat"), "rent": ("car", "bike", "flat"), "book": ("hotel", "flight", "train"),
        },
    ),
)  # fmt: skip

_BY_NAME = {area.name: area for area in AREAS}


def frame(chance: random.Random) -> Frame:
    area = chance.choice(AREAS)
    act = chance.choice(sorted(area.acts))
    thing = chance.choice(sorted(area.goes.get(act, tuple(area.things))))
    circumstance = chance.choice(["", *sorted(area.circumstances)]) if chance.random() < 0.6 else ""
    return Frame(area.name, chance.choice(area.asks), act, thing, circumstance)


def other_frame(one: Frame, chance: random.Random) -> Frame:
    """A frame that differs in exactly one part."""
    area = _BY_NAME[one.area]
    while True:
        part = chance.choices(["thing", "act", "ask", "circumstance"], [4, 4, 2, 3])[0]
        if part == "thing":
            choices = area.goes.get(one.act, tuple(area.things))
        elif part == "act":
            choices = tuple(act for act in area.acts if one.thing in area.goes.get(act, tuple(area.things)))
        elif part == "ask":
            choices = area.asks
        else:
            choices = tuple(area.circumstances)
        other = replace(one, **{part: chance.choice(sorted(choices))})
        if other != one and not _alike(one, other):
            return other


def _alike(one: Frame, other: Frame) -> bool:
    """ "may" and "how" are often meant alike, and so are "where" and "how": such pairs say nothing either way."""
    return {one.ask, other.ask} in (
        {"may", "how"},
        {"where", "how"},
        {"how", "needs"},
        {"cost", "limit"},
        {"then", "should"},
    )


def said(one: Frame, chance: random.Random) -> str:
    area = _BY_NAME[one.area]
    bare, _, ing = chance.choice(area.acts[one.act]).partition("/")
    text = chance.choice(ASKS[one.ask]).format(
        act=bare,
        acting=ing or bare,
        thing=chance.choice(area.things[one.thing]),
        circ=chance.choice(area.circumstances[one.circumstance]) if one.circumstance else "",
    )
    return text[:1].upper() + text[1:] if chance.random() < 0.6 else text
