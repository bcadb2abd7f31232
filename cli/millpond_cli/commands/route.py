"""`./millpond route "text"`"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from millpond.v1 import request_pb2, result_pb2
from millpond_cli.commands.options import Config, MaxTokens, Prompt, existing, prompt_of
from millpond_cli.errors import CommandError
from millpond_cli.here import settings_here
from millpond_cli.offline_models import embed
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown
from millpond_core import json_codec
from millpond_core.embedding import pack, prompt_text
from millpond_core.envelope import TIER_WORDS
from millpond_core.errors import Refused
from millpond_core.identity import complete
from millpond_core.stage import ROUTE_WORDS
from millpond_core.validate import validate

if TYPE_CHECKING:
    from millpond_router.settings import RouterSettings

TIERS = {word: tier for tier, word in TIER_WORDS.items()}


def route(  # noqa: PLR0917
    text: Prompt,
    tenant: Annotated[str, typer.Option(help="Whose request it would be.")] = "default",
    tier: Annotated[str | None, typer.Option(help="realtime, standard or overnight.")] = None,
    model: Annotated[str, typer.Option(help="auto, small, frontier, or a configured name.")] = "auto",
    max_tokens: MaxTokens = 128,
    min_quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Another floor than the settings have.")
    ] = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="The decision as it would stand in the result.")] = False,
) -> None:
    """Show how a request would be routed, and why. Runs nothing, and needs no stack.

    Where a stack is up, its settings file is meant; variables MILLPOND_… count as they are here.
    """
    if tier is not None and tier not in TIERS:
        raise CommandError(f"--tier {tier}: must be {', '.join(TIERS)}")
    existing(config)
    request = request_pb2.Request(tenant=tenant, model=model)
    request.messages.add(role="user", content=prompt_of(text))
    request.params.max_tokens = max_tokens
    if tier is not None:
        request.tier = TIERS[tier]
    decision = decided(request, config, min_quality)
    print(json_codec.encode(decision).decode()) if as_json else show(Console(), decision)


def decided(request: request_pb2.Request, config: Path | None, min_quality: float | None) -> result_pb2.Decision:
    """As the router decides it, by the same functions. Raises CommandError."""
    from millpond_router.settings import RouterSettings

    settings = settings_here(RouterSettings, config)
    if min_quality is not None:
        given = settings.router.quality
        tenants = {name: each.model_copy(update={"min_quality": None}) for name, each in given.tenants.items()}
        quality = given.model_copy(update={"min_quality": min_quality, "tenants": tenants})
        own = settings.router.model_copy(update={"quality": quality})
        settings = settings.model_copy(update={"router": own})
    try:
        return _decide(request, settings)
    except Refused as failure:
        raise CommandError(f"the request would be refused: {failure.to_error().message}") from None


def _decide(request: request_pb2.Request, settings: RouterSettings) -> result_pb2.Decision:
    from millpond_router import head_folder
    from millpond_router import rules as rule_files
    from millpond_router.brain import Brain
    from millpond_router.decide import decide, model_names, policy_of
    from millpond_router.language import LanguageDetector
    from millpond_router.routing import looked_at

    policy = policy_of(settings, settings.router.quality)
    try:
        rules = rule_files.load(settings.router.rules or rule_files.SHIPPED, policy.targets)
    except rule_files.RulesError as failure:
        raise CommandError("; ".join(failure.lines)) from None
    now = time.time()
    validate(request, settings.limits, model_names(policy), now)
    tier = request.tier
    complete(request, "route", None)
    brain = Brain(settings.router.heads or head_folder.SHIPPED, settings.router.calibration)
    brain.look()
    prompt = prompt_text(request)
    with shown() as report:
        vectors = embed(home(), [prompt, *rules.sentences], report)
        encoder = settings.router.encoder
        encoded = embed(home(), [prompt], report, encoder) if encoder else vectors
    # Tokens are not counted here: only the cache asks for them.
    embeddings = [pack(vector, vectors.version, 1) for vector in vectors.values]
    if rules.sentences:
        rules = rules.with_examples(embeddings[1:])
    (reading,) = brain.readings([prompt], [pack(encoded.values[0], encoded.version, 1)])
    features = looked_at(request, tier, embeddings[0], reading, rules, LanguageDetector())
    policy = policy.with_learned(brain.learned)
    return decide(features, rules, policy, now)


def show(console: Console, decision: result_pb2.Decision) -> None:
    reasons = ", ".join(map(_reason, decision.reasons))
    print(f"{decision.model} ({ROUTE_WORDS[decision.route]}, {TIER_WORDS[decision.tier]})")
    print(f"because of {reasons}\n")
    if not decision.HasField("judgement"):
        print("nothing more is known of it: there are no heads for this embedder")
        return
    judgement = decision.judgement
    options = Table("model", "P(good)", "by the heads", "cost at most", "verdict", box=None, pad_edge=False)
    for each in judgement.options:
        known = bool(each.raw_quality)
        quality, raw = (f"{each.quality:.3f}", f"{each.raw_quality:.3f}") if known else ("-", "-")
        options.add_row(each.model, quality, raw, f"${each.cost_usd}", each.verdict)
    console.print(options)
    facts = Table("what", "value", box=None, pad_edge=False)
    facts.add_row("floor of quality", f"{judgement.min_quality:g}" if judgement.min_quality else "none")
    facts.add_row("domain", f"{judgement.domain} ({judgement.domain_probability:.2f})")
    facts.add_row("task", judgement.task)
    facts.add_row("difficulty", f"{judgement.difficulty:.2f}")
    facts.add_row("out of scope", f"{judgement.out_of_scope:.2f}")
    facts.add_row("novelty", f"{judgement.novelty:.2f}")
    facts.add_row("language", judgement.language or "not clear")
    facts.add_row("counted", ", ".join(f"{name} {value:g}" for name, value in sorted(judgement.features.items())))
    facts.add_row("heads", judgement.heads)
    console.print()
    console.print(facts)


def _reason(reason: result_pb2.Reason) -> str:
    told = [reason.detail] if reason.detail else []
    if reason.HasField("value"):
        told.append(f"{reason.value:g}")
    return f"{reason.code} ({', '.join(told)})" if told else reason.code
