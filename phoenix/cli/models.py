"""`phoenix models`: the model catalogue, as this machine would use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phoenix.cli.output import FAILED, print_json

if TYPE_CHECKING:
    from phoenix.domain.listed import Listed


async def models(*, check: bool = False, as_json: bool = False) -> int:
    """List the catalogue. Returns 1 when, having been asked, a provider does not answer as it should."""
    from phoenix.cli.session import open_settings
    from phoenix.shop import list_models

    settings = open_settings()
    found = await list_models(settings, check=check)
    if as_json:
        print_json({"models": [listed.model_dump(mode="json") for listed in found]})
    else:
        for listed in found:
            _print(listed, checked=check)
    return FAILED if any(listed.problem for listed in found) else 0


def _print(listed: Listed, *, checked: bool) -> None:
    import typer

    from phoenix.cli.escape import clean

    tier = f"tier {listed.tier}" if listed.tier else "no tier"
    at = f" at {listed.base_url}" if listed.base_url else ""
    lines = [f"{listed.alias}: {listed.model}{at} ({tier})", f"  price    {_price(listed)}"]
    limits = {
        "requests/min": listed.requests_per_minute,
        "tokens/min": listed.tokens_per_minute,
        "at once": listed.concurrency,
        "output tokens": listed.output_tokens,
        "context tokens": listed.context_tokens,
    }
    said = ", ".join(f"{number} {unit}" for unit, number in limits.items() if number is not None)
    lines.append(f"  limits   {said or 'none'}")
    if listed.fallbacks:
        lines.append(f"  behind   {', '.join(listed.fallbacks)}")
    missing = "" if listed.has_key else " (missing)"
    lines.append(f"  key      {listed.key or 'none needed'}{missing}")
    if checked:
        lines.append(f"  check    {listed.problem or 'ok'}")
    typer.echo(clean("\n".join(lines)))


def _price(listed: Listed) -> str:
    if listed.input_usd is None or listed.output_usd is None:
        return "unknown"
    said = f"{listed.input_usd.normalize():f} in, {listed.output_usd.normalize():f} out"
    return f"{said} USD per million tokens (from the {listed.price_from})"
