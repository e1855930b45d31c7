"""Colours of the picture of a replay, for a light and a dark page: the same hue, lighter on the dark one."""

COLOURS = {  # style: light, dark
    "arrivals": ("#0d7f6d", "#4ccab2"),
    "recorded": ("#a9b0b9", "#6c7580"),
    "replayed": ("#16191d", "#f2f4f6"),
    "PrefillEnvelope": ("#c77d00", "#f0b44c"),
    "PrefillRate": ("#2463b8", "#6ea8f5"),
    "PrefillBacklog": ("#b3261e", "#f59b94"),
    "DecodeKV": ("#6d4fc0", "#b3a3f0"),
    "DecodeStep": ("#12806a", "#56cdb0"),
    "KVLink": ("#9a5b2c", "#d9a273"),
    "Minimum": ("#c3c8ce", "#4a525b"),
}
DASHED = frozenset({"recorded"})
BINDING_NOTE = "strip below: the constraint that binds; hover for the decision"

_PAGE = {
    "page": ("#ffffff", "#16191d"),
    "ink": ("#1c1f23", "#e6e8eb"),
    "soft": ("#5d6570", "#9aa3ae"),
    "rule": ("#e6e8eb", "#2c3238"),
}


def _variables(which: int) -> str:
    return "".join(f"--{name}:{pair[which]};" for name, pair in (_PAGE | COLOURS).items())


CSS = (
    f"svg{{{_variables(0)}color-scheme:light dark;font:12px system-ui,'Segoe UI',Roboto,sans-serif}}"
    f"@media(prefers-color-scheme:dark){{svg{{{_variables(1)}}}}}"
    "body{margin:0;background:Canvas}.page{fill:var(--page)}text{fill:var(--soft)}"
    ".title{font-size:17px;font-weight:600;fill:var(--ink)}.name{font-size:13px;font-weight:600;fill:var(--ink)}"
    ".unit,.mark{font-size:11px;font-weight:400;fill:var(--soft)}.key{font-size:11.5px;fill:var(--ink)}"
    ".grid{stroke:var(--rule)}.line{fill:none;stroke-width:1.3;stroke-linejoin:round}"
    ".strip{shape-rendering:crispEdges}.hover{fill:transparent}.hover:hover{fill:var(--ink);fill-opacity:.06}"
    ".line.c-recorded{stroke-width:5;stroke-linecap:butt}.line.c-replayed{stroke-width:2}.line.c-arrivals{stroke-width:1.8}"
    + "".join(f".line.c-{name}{{stroke:var(--{name})}}.strip.c-{name}{{fill:var(--{name})}}" for name in COLOURS)
)
