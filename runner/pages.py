"""What the pages beside dbt's documentation share: their frame and their look.

title, header, body -> `html_page` -> one HTML file without scripts and without outside parts

Colours come in a light and a dark set, and wide tables scroll by themselves on a narrow screen.
Left out: what the pages tell, which each page's own module knows.
"""

from __future__ import annotations

from html import escape

_STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --soft: #5b6675; --page: #fbfbf9;
  --line: #dcdfe4; --good: #23785a; --fair: #a86b00; --bad: #b3342d; --band: #cfe3da; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ee; --soft: #9aa5b4; --page: #14181e;
  --line: #303743; --good: #5cc29a; --fair: #e0a944; --bad: #f0837b; --band: #24473b; } }
body { margin: 2rem auto; max-width: 84rem; padding: 0 1rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { max-width: 48rem; } .soft { color: var(--soft); } a { color: inherit; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .fair { color: var(--fair); } .bad { color: var(--bad); }
svg { display: block; } .overall { font-weight: 600; } .why { color: var(--soft); font-size: .9em;
  min-width: 22rem; } summary { cursor: pointer; } li { margin-bottom: .2rem; }
ul { margin: 0; padding-left: 1.1rem; }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em;
  border-radius: 2px; } .key span:first-child { margin-left: 0; }
.bars { max-width: 100%; height: auto; } .when { white-space: nowrap; }
"""


def html_page(title: str, heading: str, header: str, body: str) -> str:
    """A complete HTML document.

    Args:
        title: What the browser shows.
        heading: The first heading.
        header: A line below it, as HTML.
        body: The rest, as HTML.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><header>"
        f'<h1>{escape(heading)}</h1><p class="soft">{header}</p></header>'
        f"<main>{body}</main></body></html>\n"
    )


def html_table(heads: tuple[str, ...], rows: list[str]) -> str:
    """A table that scrolls by itself.

    Args:
        heads: Heads of its columns; `>` before one puts its column to the right.
        rows: Rows, as HTML.
    """
    cells = "".join(
        f'<th scope="col"{" class=number" if head.startswith(">") else ""}>'
        f"{escape(head.removeprefix('>'))}</th>"
        for head in heads
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
