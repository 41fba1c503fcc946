"""Draw what a basis keeps of patch tokens over the number of its directions."""

from io import BytesIO

from vit_perception.datasets.learn_basis import Learnt


def curve_png(learnt: Learnt) -> bytes:
    """Return a PNG: mean and worst cosine similarity over bytes of a patch token.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    counts = [kept.dims for kept in learnt.curve]
    axes.plot(counts, [kept.mean_cosine for kept in learnt.curve], "o-", label="mean")
    axes.plot(counts, [kept.worst_cosine for kept in learnt.curve], "s--", label="worst 1 %")
    axes.axvline(learnt.kept.dims, color="0.7", zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("directions (bytes of a patch token, without 4 for its scale)")
    axes.set_ylabel("cosine similarity to the token itself")
    axes.set_title(
        f"{learnt.held_out_frames} frames that were not learnt from, {learnt.basis.width} channels"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
