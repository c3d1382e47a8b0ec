"""Export of fitted estimators for tables to one C99 file: the encoder, all nets and their mean."""

from __future__ import annotations

import json
import os

from .. import __version__
from .._common.validation import Array
from ..exchange.c import Body, require_free_name
from ..io.files import atomic_write
from ..modules import Module
from ..modules.lowering import iter_layers
from .encoder import ColumnEncoder
from .encodings import DENSE, LARGEST, CategoryEncoding, NumberEncoding, refuse_dates
from .networks import input_places, reads_positions

__all__ = ["write_c"]

_NUMBER = f"""static int number(double x, double median, double factor, int missing, int count, const double *edges,
                  int position, T *out) {{
    int at = 0, absent = x != x;
    if (absent) x = median;
    if (factor != 0) {{
        double z = (x - median) * factor;
        z = z < {-LARGEST!r} ? {-LARGEST!r} : z > {LARGEST!r} ? {LARGEST!r} : z;
        out[at++] = (T)(z / sqrt(1 + (z / 3) * (z / 3)));
    }}
    if (missing) out[at++] = (T)absent;
    double sum = 0;
    for (int i = 0; i + 1 < count; i++) {{
        double part = (x - edges[i]) / (edges[i + 1] - edges[i]);
        part = part < 0 ? 0 : part > 1 ? 1 : part;
        if (position) sum += part;
        else out[at++] = (T)part;
    }}
    if (position) out[at++] = (T)sum;
    return at;
}}
"""
_PLACE = """static int place(const char *text, int count, const char *const *levels) {
    if (!text || !*text) return count;
    for (int i = 0; i < count; i++)
        if (!strcmp(text, levels[i])) return i;
    return count + 1;
}
"""


def write_c(
    path: str | os.PathLike[str],
    encoder: ColumnEncoder,
    nets: list[Module],
    name: str,
    *,
    temperature: float | None = None,
    scale: Array | None = None,
    offset: Array | None = None,
) -> None:
    """Write an ensemble as one C99 file, see `TabularClassifier.export_c`.

    Parameters
    ----------
    path : path-like
    encoder : ColumnEncoder
    nets : list of Module
    name : str
        Name of the function.
    temperature : float, optional
        That of the probabilities of a classification.
    scale, offset : ndarray of shape (O,), optional
        Factor and summand of the outputs of a regression.
    """
    require_free_name(name)
    text = _source(encoder, nets, name, temperature, scale, offset)
    with atomic_write(path) as stream:
        stream.write(text.encode())


def _source(
    encoder: ColumnEncoder, nets: list[Module], name: str, temperature: float | None, scale: Array | None,
    offset: Array | None,
) -> str:  # fmt: skip
    columns = _Columns(encoder, reads_positions(nets[0]))
    functions: list[str] = []
    constants: list[str] = []
    calls = []
    inputs, outputs, widest = columns.width, 0, columns.width
    for number, net in enumerate(nets):
        assert net.dtype is not None
        body = Body(net.dtype, inputs, functions, constants)
        for _, module in iter_layers(net, evaluation=True):
            body.add(module)
        if temperature is not None:
            body.softmax()
        outputs, widest = body.width, max(widest, body.widest)
        calls += [
            f"    /* net {number + 1} */",
            f"    for (int i = 0; i < {inputs}; i++) buffers[0][i] = inputs[i];",
            *body.calls,
            f"    for (int i = 0; i < {outputs}; i++) y[i] += buffers[{body.now}][i];",
        ]
    kind = body.type
    signature = f"void {name}(const double *numbers, const char *const *texts, double *y)"
    answer = [f"    for (int i = 0; i < {outputs}; i++) y[i] /= {len(nets)};"]
    if temperature is not None and temperature != 1.0:
        answer += [
            "    double sum = 0;",
            f"    for (int i = 0; i < {outputs}; i++) sum += y[i] = pow(y[i], {1 / temperature!r});",
            f"    for (int i = 0; i < {outputs}; i++) y[i] /= sum;",
        ]
    if scale is not None and offset is not None:
        answer += [
            f"    y[{i}] = y[{i}] * {a!r} + {b!r};" for i, (a, b) in enumerate(zip(scale.tolist(), offset.tolist()))
        ]
    lines = [
        f"/* An ensemble of {len(nets)} networks for tables, written by fastmlp {__version__}.",
        " *",
        f" *     {signature};",
        " *",
        f" * numbers: {_listed(columns.numbers)}; NAN where one is missing.",
        f" * texts: {_listed(columns.texts)}; NULL or an empty text where one is missing.",
        f" * y: {outputs} {'values' if temperature is None else 'probabilities'}.",
        " * Memory is static: one thread at a time.",
        " * Compile: cc -std=c99 -O2 -c FILE; link with -lm. */",
        "#include <math.h>",
        "#include <string.h>",
        "",
        f"#define {name.upper()}_NUMBERS {len(columns.numbers)}",
        f"#define {name.upper()}_TEXTS {len(columns.texts)}",
        f"#define {name.upper()}_OUTPUTS {outputs}",
        "",
        f"{signature};",
        "",
        *functions,
        *[text.replace("T *", f"{kind} *").replace("(T)", f"({kind})") for text in columns.functions()],
        *constants,
        *columns.constants,
        f"static {kind} buffers[2][{widest}], inputs[{inputs}], some[{max(1, columns.widest)}];",
        "",
        f"{signature} {{",
        *(["    (void)numbers;"] if not columns.numbers else []),
        *(["    (void)texts;"] if not columns.texts else []),
        *columns.calls,
        f"    for (int i = 0; i < {outputs}; i++) y[i] = 0;",
        *calls,
        *answer,
        "}",
        "",
    ]
    return "\n".join(lines)


def _listed(names: list[str]) -> str:
    """Return names for a comment."""
    return ", ".join(json.dumps(name).replace("*/", "* /") for name in names) or "none"


class _Columns:
    """Calls that encode the columns of a table.

    Attributes
    ----------
    numbers, texts : list of str
        Names of the columns of each kind.
    width : int
        Number of inputs of the nets.
    widest : int
        Largest number of inputs of a column.
    constants, calls : list of str
    """

    def __init__(self, encoder: ColumnEncoder, positions: bool) -> None:
        fewest = encoder.fewest_coded_ if positions else None
        places, self.width = input_places(encoder, positions)
        self.widest = max((len(one) for one in places), default=0)
        self.numbers: list[str] = []
        self.texts: list[str] = []
        self.constants: list[str] = []
        self.calls: list[str] = []
        for name, encoding, at in zip(encoder.column_names(), encoder.encodings_, places, strict=True):
            kept = refuse_dates(name, encoding, "the C file")
            if isinstance(kept, NumberEncoding):
                self._number(str(name), kept, fewest)
            else:
                self._category(str(name), kept, fewest)
            self.calls += [f"    inputs[{one}] = some[{k}];" for k, one in enumerate(at)]

    def functions(self) -> list[str]:
        """Return the functions that the calls need."""
        return [*([_NUMBER] if self.numbers else []), *([_PLACE] if self.texts else [])]

    def _constant(self, kind: str, values: list[str]) -> str:
        name = f"e{len(self.constants)}"
        rows = [", ".join(values[i : i + 6]) for i in range(0, len(values), 6)] or ["0"]
        text = ",\n    ".join(rows)
        self.constants.append(f"static const {kind} {name}[] = {{\n    {text}}};\n")
        return name

    def _number(self, name: str, encoding: NumberEncoding, fewest: int | None) -> None:
        count = len(encoding.edges)
        edges = self._constant("double", [edge.hex() for edge in encoding.edges]) if count else "0"
        position = int(bool(count) and fewest is not None and encoding.inputs(fewest)[-1].kind != DENSE)
        if encoding.width:
            self.calls.append(
                f"    number(numbers[{len(self.numbers)}], {encoding.median.hex()}, {encoding.factor.hex()}, "
                f"{int(encoding.missing)}, {count}, {edges}, {position}, some);"
            )
        self.numbers.append(name)

    def _category(self, name: str, encoding: CategoryEncoding, fewest: int | None) -> None:
        place = len(self.texts)
        self.texts.append(name)
        if not encoding.width:
            return
        other = len(encoding.levels) if encoding.rare else -1
        absent = len(encoding.levels) + encoding.rare if encoding.missing else -1
        codes = [*range(len(encoding.levels)), absent, other]
        rows = [encoding.inputs_of(code, fewest) for code in codes]
        width = len(rows[0])
        table = self._constant("double", [repr(value) for row in rows for value in row])
        levels = self._constant("char *const", [_literal(level) for level in encoding.levels])
        self.calls.append(
            f"    for (int i = 0, k = place(texts[{place}], {len(encoding.levels)}, {levels}); i < {width}; i++)\n"
            f"        some[i] = {table}[k * {width} + i];"
        )


def _literal(text: str) -> str:
    """Return a text as a literal of C, in UTF-8."""
    quoted = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{quoted}"'
