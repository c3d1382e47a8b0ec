"""Coefficients of the elementary functions, fitted and printed by ``tools/fit_polynomials.py``.

`cpu.vecmath` compiles the coefficients into the JIT kernels. The build writes them to a header for the kernels
compiled ahead of time, so this file must not import the package.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CDF_SHIFT", "FLOAT32", "FLOAT64", "Constants"]


class Constants(NamedTuple):
    """Constants of one dtype; polynomial coefficients have the lowest power first."""

    rounding: float  # adding this value rounds to an integer in the low bits of the sum
    log2e: float
    ln2_high: float  # has few enough bits for the fused x - n * ln2_high to be exact
    ln2_low: float
    exp_lowest: float  # e^x is 0 at this x
    exp_highest: float  # e^x is infinite at this x
    identity: float  # expm1(x) is x for |x| below this value
    normal_limit: float  # e^(-x^2 / 2) is 0 at this x, also after division by a normal number
    pdf_peak: float  # 1 / sqrt(2 pi)
    half_pi: float
    exp: tuple[float, ...]
    log1p: tuple[float, ...]
    tanh: tuple[float, ...]
    sin: tuple[float, ...]  # (sin(pi f / 2) / f - pi / 2) / f^2 in powers of f^2
    cos: tuple[float, ...]  # (cos(pi f / 2) - 1) / f^2 in powers of f^2
    normal_center: float  # g(0), see `cpu.vecmath.normal_cdf`
    normal_slope: tuple[float, ...]  # (g(t) - g(0)) / t


FLOAT32 = Constants(
    rounding=1.5 * 2.0**23,
    log2e=1.4426950216293335,
    ln2_high=0.6931471824645996,
    ln2_low=-1.9046542121259336e-09,
    exp_lowest=-104.0,
    exp_highest=89.0,
    identity=2.0**-25,
    normal_limit=14.5,
    pdf_peak=0.3989422917366028,
    half_pi=1.5707963705062866,
    exp=(0.4999999701976776, 0.16666541993618011, 0.041667528450489044, 0.008366692811250687, 0.00138621567748487),
    log1p=(0.6666695475578308, 0.39957305788993835, 0.3036912679672241),
    tanh=(-0.3333328068256378, 0.13331419229507446, -0.053738292306661606, 0.02063542976975441, -0.005701635032892227),
    sin=(-0.6459640860557556, 0.07969237118959427, -0.0046799397096037865, 0.0001556225906824693),
    cos=(-1.2337005138397217, 0.2536686658859253, -0.020856810733675957, 0.0008974422235041857),
    normal_center=0.6914337277412415,
    normal_slope=(
        -0.386381059885025, 0.08013325184583664, 0.027837321162223816, -0.010564901866018772, -0.005640355870127678,
        0.000831298588309437, 0.0013694600202143192, 0.00023104940191842616, -0.00021549906523432583,
        -9.45679348660633e-05,
    ),
)  # fmt: skip

FLOAT64 = Constants(
    rounding=1.5 * 2.0**52,
    log2e=1.4426950408889634,
    ln2_high=0.6931471805598903,
    ln2_low=5.497923018708371e-14,
    exp_lowest=-746.0,
    exp_highest=710.0,
    identity=2.0**-54,
    normal_limit=39.0,
    pdf_peak=0.3989422804014327,
    half_pi=1.5707963267948966,
    exp=(
        0.5000000000000006, 0.166666666666666, 0.04166666666657362, 0.008333333333383519, 0.0013888888932399315,
        0.00019841269731676298, 2.480150439420565e-05, 2.755739643193934e-06, 2.762635760774076e-07,
        2.5057264000887157e-08,
    ),
    log1p=(
        0.6666666666667287, 0.3999999999610431, 0.28571429402835674, 0.22222138021928645, 0.18186371988992064,
        0.1524992272807199, 0.15369955845355204,
    ),
    tanh=(
        -0.3333333333333285, 0.13333333333261696, -0.05396825393120126, 0.02186948757606972, -0.008863221014018957,
        0.0035919893245427805, -0.0014549598448376487, 0.0005863201152168961, -0.00022857197242785423,
        7.715357709509668e-05, -1.6077188444448463e-05,
    ),
    sin=(
        -0.6459640975062463, 0.07969262624616874, -0.004681754135354887, 0.00016044118515150406,
        -3.5988450589187533e-06, 5.6925747190618675e-08, -6.698412158345058e-10,
    ),
    cos=(
        -1.2337005501361697, 0.2536695079010428, -0.020863480763225178, 0.0009192602732729504,
        -2.5202031769189862e-05, 4.7104720323221783e-07, -6.306236574277325e-09,
    ),
    normal_center=0.6914337184072874,
    normal_slope=(
        -0.3863810608479399, 0.08013323879102721, 0.027837498619363747, -0.010562332387535801, -0.005642406278168549,
        0.0008118614118572968, 0.001375049302933534, 0.00028773617208117404, -0.00021266675309803313,
        -0.00016753315547393807, -2.6005144429862526e-05, 3.254954408620974e-05, 2.5978386192074282e-05,
        5.931780347784539e-06, -4.204719275089013e-06, -4.633662870654525e-06, -1.8804414358665783e-06,
        1.5736725224333086e-07, 8.450698500984176e-07, 6.486241981959335e-07, 1.1095877855764047e-07,
        -2.10672653592038e-07, -1.482777862903204e-07, -3.0132111192197e-10, 3.032712737309606e-08,
        8.28382938980958e-09,
    ),
)  # fmt: skip

CDF_SHIFT = 2.25  # must equal the shift k of the fit, see `cpu.vecmath.normal_cdf`
