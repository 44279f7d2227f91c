"""`daskflow runs report`: one flow run as one HTML file that needs nothing else.

The file makes no request: BokehJS stands in it, and its content security policy permits just
the scripts and styles that are in it.  Every word that a user wrote goes through Jinja's
autoescape, or through `_script_json` where a script reads it.  The run store is only read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from daskflow.dashboards import wording
from daskflow.dashboards.kinds import KINDS
from daskflow.dashboards.page import ReportSource, page_of
from daskflow.dashboards.timeline import TASK_COLORS

__all__ = ["render_report", "write_report"]

_HERE = Path(__file__).parent


def write_report(store: ReportSource, flow_run_id: str, path: str | Path) -> Path:
    """Write the report of one flow run to `path` and return where it is.

    Parameters
    ----------
    store : ReportSource
        The run store, as `runner.store.open_store` gives it.
    flow_run_id : str
        Id of the flow run; anything else that `store.find_flow_run` understands will do.
    path : str or Path
        File to write; missing folders are made, a file that is there is replaced whole.

    Returns
    -------
    Path
        `path`, absolute.
    """
    target = Path(path).absolute()
    html = render_report(store, flow_run_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(html.encode("utf-8", "replace"))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def render_report(store: ReportSource, flow_run_id: str) -> str:
    """Return the report of one flow run as HTML, on the record as it is now."""
    page = page_of(store, flow_run_id, now=time.time())
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": wording.duration,
        "size": wording.size,
        "clock": wording.clock,
        "day_and_time": wording.day_and_time,
        "address": wording.short_address,
        "printable": wording.printable,
    }
    environment.globals |= {"count_of": wording.count_of, "rate": wording.rate}
    style = _style()
    bokeh_js = _bokeh_js() if page["timeline"] is not None else ""
    early_js = (_HERE / "static" / "early.js").read_text("utf-8")
    page_js = (_HERE / "static" / "report.js").read_text("utf-8")
    nonce = secrets.token_urlsafe(16)  # for the style elements that BokehJS makes
    return environment.get_template("report.html").render(
        page,
        policy=_policy([early_js, bokeh_js, page_js], [style], nonce),
        nonce=nonce,
        style=Markup(style),
        early_js=Markup(early_js),
        bokeh_js=Markup(bokeh_js),
        page_js=Markup(page_js),
        figure_json=_script_json(_figure(page["timeline"])),
    )


def _figure(timeline: Any) -> Any:
    return None if timeline is None else {"item": timeline.item, "words": timeline.words}


def _bokeh_js() -> str:
    """BokehJS without what a report has no use for; safe inside a script element."""
    source = Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0]
    lines = [line for line in source.splitlines() if not line.startswith("//# sourceMappingURL")]
    return "\n".join(lines).replace("</script", "<\\/script")


def _style() -> str:
    """The style sheet, with the colours of states and tasks that the figures use too."""
    rules = [(_HERE / "static" / "report.css").read_text("utf-8")]
    rules += [f".k-{kind.name}{{--k:{kind.color}}}" for kind in KINDS]
    rules += [f".t-{place}{{--k:{color}}}" for place, color in enumerate(TASK_COLORS)]
    return "\n".join(rules)


def _policy(scripts: list[str], styles: list[str], nonce: str) -> str:
    """Content security policy that permits these texts and nothing else."""
    script = " ".join(_source_hash(text) for text in scripts if text)
    style = " ".join(_source_hash(text) for text in styles)
    return (
        f"default-src 'none'; script-src {script}; style-src {style} 'nonce-{nonce}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script_json(value: Any) -> Markup:
    """`value` as JSON that cannot end, open or comment out the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
