"""Figures: what is drawn, and what is written."""

import numpy as np
import pytest
import small_models
from matplotlib.figure import Figure

import wrpn_tf
from wrpn_tf import Result, plots


@pytest.fixture(scope="module")
def quantized():
    model = wrpn_tf.quantize_model(small_models.tiny(), 2, 4, input_range=(-1, 1))
    wrpn_tf.calibrate(model, [small_models.images(model)])
    return model


def test_memory_shares_are_those_of_the_model():
    model = small_models.tiny()
    memories = [wrpn_tf.measure_cost(model, batch).memory for batch in (1, 4)]
    training, inference = plots.memory_shares({"tiny": memories}).axes
    assert training.lines[0].get_ydata().tolist() == [100 * m.training_share for m in memories]
    assert inference.lines[0].get_ydata().tolist() == [100 * m.inference_share for m in memories]


def test_code_histograms_have_every_kernel_and_sum_to_the_whole(quantized):
    figure = plots.code_histograms(quantized)
    assert [axes.get_title() for axes in figure.axes] == [
        f"{layer.name}, {layer.kernel.bits} bits"
        for layer in wrpn_tf.view(quantized)
        if layer.kernel is not None
    ]
    for axes in figure.axes:
        assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(100)


@pytest.mark.parametrize("front", ["tf_keras", "keras"])
def test_activation_histograms_stay_on_their_grid(quantized, front):
    if front == "keras":
        quantized = wrpn_tf.from_tf_keras(quantized)
    figure = plots.activation_histograms(quantized, small_models.images(quantized))
    grids = [layer.grid for layer in wrpn_tf.view(quantized) if layer.grid is not None]
    assert len(figure.axes) == len(grids)
    for axes, grid in zip(figure.axes, grids, strict=True):
        codes = [round(bar.get_x() + bar.get_width() / 2) for bar in axes.patches]
        assert grid.low <= min(codes) <= max(codes) <= grid.high


def test_a_model_without_codes_is_refused():
    with pytest.raises(ValueError, match="has no quantized kernels"):
        plots.code_histograms(small_models.tiny())
    with pytest.raises(ValueError, match="has no calibrated outputs"):
        plots.activation_histograms(small_models.tiny(), np.zeros((1, 6, 6, 2), np.float32))


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_saving(tmp_path, suffix, start):
    results = [
        Result(name="a", arch="b", width=w, wbits=2, abits=4, cost=w / 3, accuracy=1 - 0.3 / w)
        for w in (1, 2)
    ]
    path = tmp_path / "new" / f"figure{suffix}"
    plots.save(plots.cost_accuracy(results), path)
    assert path.read_bytes().startswith(start)
    assert list(path.parent.iterdir()) == [path]


def test_many_names_have_a_legend_beside_the_points():
    results = [
        Result(name=str(n), arch="b", width=1, wbits=2, abits=4, cost=1 + n, accuracy=0.9 - n / 20)
        for n in range(9)
    ]
    figure = plots.cost_accuracy(results)
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_legend() is None and len(legend.get_texts()) == 10
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines[1:]}
    assert len(looks) == 9
    assert [text.get_text() for text in axes.texts] == ["1x 4/2"], "of the front alone"


def test_networks_of_one_cost_have_one_label():
    results = [
        Result(name=name, arch="b", width=2, wbits=2, abits=4, cost=0.4, accuracy=accuracy)
        for name, accuracy in (("fixed", 0.75), ("learned", 0.74), ("literal", 0.76))
    ]
    (label,) = plots.cost_accuracy(results).axes[0].texts
    assert label.get_text() == "2x 4/2" and label.xy == (0.4, 74.0)


def test_a_label_of_curves_looks_alike_in_all_panels():
    labels = [f"1x {bits}/2" for bits in range(1, 8)]
    panels = {"float": {"1x 7/2": [0.5, 0.6]}, "few": {label: [0.1, 0.2] for label in labels}}
    figure = plots.learning_curves(panels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["1x 7/2", *labels[:-1]]
    looks = [
        {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines}
        for axes in figure.axes
    ]
    assert looks[0]["1x 7/2"] == looks[1]["1x 7/2"] and len(set(looks[1].values())) == 7


def test_names_are_no_mathematics(tmp_path):
    figure = plots.learning_curves({"$runs": {"$a$ and_b": [0.5, 0.6]}})
    plots.save(figure, tmp_path / "figure.svg")
    assert figure.axes[0].get_title() == r"\$runs"
    (label,) = figure.legends[0].get_texts()
    assert label.get_text() == r"\$a\$ and_b"
    memories = [wrpn_tf.measure_cost(small_models.tiny()).memory]
    labels = plots.memory_shares({"$a$": memories}).axes[1].get_legend().get_texts()
    assert [label.get_text() for label in labels] == [r"\$a\$"]


def test_every_name_is_in_the_legend():
    result = Result(name="_a", arch="b", width=1, wbits=2, abits=4, cost=0.3, accuracy=0.5)
    legend = plots.cost_accuracy([result]).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["Pareto front", "_a"]


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        plots.save(Figure(), tmp_path / "figure.jpg")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"Cannot write .*figure\.svg: Not a directory\.$"):
        plots.save(Figure(), tmp_path / "file" / "new" / "figure.svg")
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(ValueError, match=r"Cannot write .*figure\.png: Is a directory\.$"):
        plots.save(Figure(), tmp_path / "figure.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.png", "file"]
