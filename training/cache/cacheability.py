"""Trains the cache's first head: may the answer to this question be given again?

    python training/cache/cacheability.py --data DIR --models-python PYTHON --assets DIR

Which of CLINC150's intents depend on the asker, on the moment, or ask for an action is said here, by hand; the
questions of Banking77 and Quora are such as anybody may ask. Writes services/cache/millpond_cache/heads/
cacheability.json and prints what it does on the tenth of texts that was held back.
"""
# ruff: noqa: E501

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path

import numpy as np
from offline import Models
from pairs import read
from sklearn.linear_model import LogisticRegression
from splits import SHARES, Part, part_of

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / each) for each in ("services/cache", "core", "proto/python")]

from millpond_cache.cacheable import HEAD, PATTERNS, CacheabilityHead, signs_of

SEED = 20261124

PERSONAL = frozenset(
    # What only this asker's records say.
    "bill_due account_blocked min_payment bill_balance balance spending_history transactions expiration_date credit_limit "  # noqa: SIM905
    "rewards_balance application_status credit_score apr confirm_reservation order_status todo_list calendar reminder "
    "shopping_list oil_change_when mpg last_maintenance tire_pressure gas next_song meeting_schedule payday income "
    "pto_request_status pto_balance pto_used user_name insurance lost_luggage find_phone current_location "
    # What another moment answers otherwise.
    "how_busy what_song traffic flight_status exchange_rate weather date time timezone flip_coin roll_dice next_holiday "
    # What is to be done, not said.
    "freeze_account pay_bill transfer order_checks report_fraud report_lost_card new_card credit_limit_change "
    "restaurant_reservation cancel_reservation todo_list_update reminder_update calendar_update update_playlist "
    "play_music order shopping_list_update smart_home uber schedule_maintenance travel_notification book_flight book_hotel "
    "car_rental alarm share_location timer make_call text pto_request schedule_meeting change_speed whisper_mode "
    "change_volume change_language repeat change_accent cancel sync_device change_user_name change_ai_name reset_settings "
    "yes no maybe".split()
)

COMMON = frozenset(
    "routing interest_rate replacement_card_duration improve_credit_score international_fees food_last ingredients_list "  # noqa: SIM905
    "calories nutrition_info recipe restaurant_reviews meal_suggestion ingredient_substitution cook_time "
    "accept_reservations oil_change_how distance directions gas_type tire_change jump_start plug_type translate "
    "international_visa travel_suggestion vaccines carry_on calculator definition measurement_conversion spelling taxes "
    "rollover_401k w2 direct_deposit insurance_change pin_change redeem_rewards who_made_you meaning_of_life fun_fact "
    "tell_joke are_you_a_bot what_can_i_ask_you travel_alert damaged_card card_declined".split()
)
"""Intents of which most questions are anybody's. Those of neither list say too little either way."""

FROM_QUORA = 6000

LEAST_PASSED = 0.97
"""Share of the questions that anybody may ask, of Banking77 and Quora, that must pass."""


def questions(data: Path, part: Part) -> list[tuple[str, int, str]]:
    chance = random.Random(SEED)
    rows = [(row["text"], row["intent"]) for row in read(data / "clinc150.jsonl.gz")]
    found = [(text, 0, "clinc personal") for text, intent in rows if intent in PERSONAL]
    found += [(text, 1, "clinc common") for text, intent in rows if intent in COMMON]
    found += [(row["text"], 1, "banking77") for row in read(data / "banking77.jsonl.gz")]
    quora = sorted({row["a"] for row in read(data / "quora_pairs.jsonl.gz")})
    found += [(text, 1, "quora") for text in chance.sample(quora, FROM_QUORA)]
    return [each for each in found if part_of(each[0]) == part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models-python", type=Path, required=True)
    parser.add_argument("--assets", type=Path, required=True)
    arguments = parser.parse_args()
    models = Models(arguments.models_python, arguments.assets)
    parts = {part: questions(arguments.data, part) for part, _ in SHARES}
    vectors = {part: models.embed([text for text, _, _ in rows]) for part, rows in parts.items()}

    def features(part: Part) -> np.ndarray:
        return np.hstack([vectors[part], np.array([signs_of(text) for text, _, _ in parts[part]])])

    fitted = LogisticRegression(C=3.0, max_iter=2000, class_weight="balanced")
    fitted.fit(
        np.vstack([features("train"), features("fit")]), [label for _, label, _ in parts["train"] + parts["fit"]]
    )
    weights = fitted.coef_[0]
    calibrated = fitted.predict_proba(features("calibrate"))[:, 1]
    anybodys = [
        p for p, (_, _, name) in zip(calibrated, parts["calibrate"], strict=True) if name in ("banking77", "quora")
    ]
    least = float(np.quantile(anybodys, 1 - LEAST_PASSED))
    config = (REPOSITORY / "models" / "embedder" / "config.pbtxt").read_text()
    found = re.search(r'key: "version" value: \{ string_value: "([^"]+)"', config)
    assert found
    size = vectors["train"].shape[1]
    stored = {
        "embedder": found[1],
        "bias": round(float(fitted.intercept_[0]), 5),
        "least": round(least, 4),
        "signs": {name: round(float(each), 4) for (name, _), each in zip(PATTERNS, weights[size:], strict=True)},
        "weights": [round(float(each), 4) for each in weights[:size]],
    }
    HEAD.parent.mkdir(exist_ok=True)
    HEAD.write_text(json.dumps(stored, indent=1) + "\n")
    head = CacheabilityHead(
        found[1],
        np.array(stored["weights"], dtype=np.float32),
        np.array(list(stored["signs"].values()), dtype=np.float32),
        stored["bias"],
        stored["least"],
    )
    for name in ("clinc personal", "clinc common", "banking77", "quora"):
        passed = [
            head.probability(text, vector) >= head.least
            for (text, _, own), vector in zip(parts["test"], vectors["test"], strict=True)
            if own == name
        ]
        print(f"test, {name}: {np.mean(passed):.3f} of {len(passed)} may be answered again")


if __name__ == "__main__":
    main()
