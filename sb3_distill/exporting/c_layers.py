"""C functions that compute a layer: four sums at a time, each in the order in which SB3's matrix products sum.

Sums of hundreds are rounded by more than an answer may differ, in one order as in another: of the zoo's SAC on Hopper, ``predict`` itself
differs by 8e-05 between a batch and one state at a time. So a sum here adds the products one after the other, each by a fused
multiply-add where the processor has one, which is what the products of a batch do; there the answers are equal to the last bits.
Four sums do not wait for each other, and their weights lie side by side, so that compilers compute them at once.
"""

import numpy as np

#: how many sums are computed at once
FOUR = 4

MULTIPLY_ADD = """#ifdef FP_FAST_FMAF
#define {name}_add(w, x, a) fmaf(w, x, a)
#else
#define {name}_add(w, x, a) ((w) * (x) + (a))
#endif
"""
LINEAR = """static void {name}_linear{kind}(const float *x, const {weight} *w, {scales}const float *b, float *y, int n, int m) {{
    int i, k;
    for (k = 0; k + 4 <= m; k += 4) {{
        float a0 = 0, a1 = 0, a2 = 0, a3 = 0;
        for (i = 0; i < n; ++i, w += 4) {{
            const float v = x[i];
            a0 = {name}_add({cast}w[0], v, a0);
            a1 = {name}_add({cast}w[1], v, a1);
            a2 = {name}_add({cast}w[2], v, a2);
            a3 = {name}_add({cast}w[3], v, a3);
        }}
        y[k] = a0; y[k + 1] = a1; y[k + 2] = a2; y[k + 3] = a3;
    }}
    for (; k < m; ++k, w += n) {{
        float a = 0;
        for (i = 0; i < n; ++i) a = {name}_add({cast}w[i], x[i], a);
        y[k] = a;
    }}
    for (k = 0; k < m; ++k) y[k] = y[k]{scale} + (b ? b[k] : 0);
}}
"""
CONV2D = """static void {name}_conv2d{kind}(const float *x, const {weight} *w, {scales}const float *b, float *y, int c, int h, int l,
        int m, int kh, int kw, int sh, int sw, int ph, int pw, int oh, int ow) {{
    int g, i, j, k, p, q, r;
    const int o = oh * ow;
    for (k = 0; k < m; k += g, w += g * c * kh * kw) for (g = k + 4 <= m ? 4 : 1, i = 0; i < oh; ++i) for (j = 0; j < ow; ++j) {{
        float a0 = 0, a1 = 0, a2 = 0, a3 = 0;
        float *const z = y + (k * oh + i) * ow + j;
        for (r = 0; r < c; ++r) for (p = 0; p < kh; ++p) {{
            const int u = i * sh + p - ph;
            const {weight} *t = w + g * (r * kh + p) * kw;
            if (u < 0 || u >= h) continue;
            for (q = 0; q < kw; ++q, t += g) {{
                const int s = j * sw + q - pw;
                float v;
                if (s < 0 || s >= l) continue;
                v = x[(r * h + u) * l + s];
                a0 = {name}_add({cast}t[0], v, a0);
                if (g == 1) continue;
                a1 = {name}_add({cast}t[1], v, a1);
                a2 = {name}_add({cast}t[2], v, a2);
                a3 = {name}_add({cast}t[3], v, a3);
            }}
        }}
        z[0] = a0;
        if (g == 4) {{ z[o] = a1; z[2 * o] = a2; z[3 * o] = a3; }}
    }}
    for (k = 0; k < m; ++k) for (i = 0; i < o; ++i, ++y) *y = *y{scale} + (b ? b[k] : 0);
}}
"""


def in_fours(rows: np.ndarray) -> np.ndarray:
    """
    :param rows: weights, shape (outputs, inputs)
    :return: the same numbers as the functions read them: of four outputs the first weights, then the second ones …; those that are left
        over follow, one row after the other
    """
    whole = len(rows) - len(rows) % FOUR
    fours = rows[:whole].reshape(-1, FOUR, rows.shape[1]).swapaxes(1, 2)
    return np.concatenate([fours.flatten(), rows[whole:].flatten()])


def functions(name: str, kinds: set[str]) -> str:
    """
    :param name: before all names
    :param kinds: ``linear`` and ``conv2d``, and with ``_i8`` those whose weights are whole numbers
    :return: they
    """
    return (MULTIPLY_ADD.format(name=name) if kinds else "") + "".join(_function(name, kind) for kind in sorted(kinds))


def _function(name: str, kind: str) -> str:
    layer, _, int8 = kind.partition("_")
    return (LINEAR if layer == "linear" else CONV2D).format(
        name=name,
        kind="_i8" if int8 else "",
        weight="int8_t" if int8 else "float",
        scales="const float *f, " if int8 else "",
        cast="(float)" if int8 else "",
        scale=" * f[k]" if int8 else "",
    )
