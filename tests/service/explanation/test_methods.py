"""The methods beside each other: exactness, sanity checks, and a truth that was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from contract import bundle
from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.network.graph import Floats
from contract.network.layers import Layer
from contract.preprocessing import Pixels
from service.explanation import gradient_activation, integrated_gradients, methods, occlusion
from service.explanation.errors import InvalidOption, UnknownClass, UnknownMethod
from service.explanation.heat_map import HeatMap
from service.explanation.question import Question
from service.explanation.subject import Subject
from tests.support import planted
from tests.support.models import greedy_bundle
from training.evaluation import calibrate


def heat_map(method: str, subject: Subject, image: Pixels, question: Question) -> HeatMap:
    form = subject.served
    if method == "contributions":
        return subject.head.contributions(image, question).heat_map()
    if method == "occlusion":
        return occlusion.explain(form, image, question).heat_map()
    if method == "integrated_gradients":
        return integrated_gradients.explain(form, image, question, start="grey").heat_map()
    layer = gradient_activation.usual_layer(form)
    return gradient_activation.explain(form, image, question, layer).heat_map()


# --- integrated gradients


def test_integrated_gradients_sum_to_the_difference_of_scores(recipe: Subject, images: Pixels) -> None:
    found = integrated_gradients.explain(recipe.served, images[:1], Question(3, 5))
    assert found.delta == pytest.approx(found.sum - (found.score - found.baseline_score))
    assert abs(found.delta) < 0.02 * np.abs(found.values).sum()


def test_more_steps_bring_them_closer(shipped: Subject, images: Pixels) -> None:
    def error(steps: int) -> float:
        found = [
            integrated_gradients.explain(shipped.served, image[None], Question(3, 5), steps=steps).delta
            for image in images[:2]
        ]
        return float(np.abs(found).mean())

    assert error(100) < error(25) < error(5)


def test_the_ends_of_the_path_are_what_the_model_says(shipped: Subject, cat: Pixels) -> None:
    found = integrated_gradients.explain(shipped.served, cat, Question(3), start="black", steps=10)
    logits, _ = shipped.served.answers(np.concatenate([cat, np.zeros_like(cat)]))
    np.testing.assert_allclose([found.score, found.baseline_score], logits[:, 3], atol=1e-4)


# --- gradient × activation


def test_values_and_biases_times_their_gradients_are_the_logit(shipped: Subject, cat: Pixels) -> None:
    """On a network of ReLUs, maxima and linear layers: f is homogeneous in values and biases.

    So at every layer but those that a residual connection leads past.
    """
    form, question = shipped.served, Question(3)
    order = {one.id: place for place, one in enumerate(form.layers)}

    def is_bypassed(layer: Layer) -> bool:
        place = order[layer.id]
        behind = [later for later in form.layers if order[later.id] > place]
        return any(order.get(source, place) < place for later in behind for source in later.inputs)

    complete = [one for one in form.layers if one.tensor in form.gradient.by and not is_bypassed(one)]
    assert len(complete) > 12
    for layer in complete:
        found = gradient_activation.explain(form, cat, question, layer)
        biases = 0.0
        for later in form.layers:
            if order[later.id] <= order[layer.id] or later.kind != "convolution":
                continue
            bias = form.graph.weights(later.node, 2)
            _, _, (slopes,) = form.gradient(cat, question.weights(10), later.tensor)
            biases += float((slopes.sum((0, 2, 3), dtype=np.float64) * bias).sum())
        assert found.sum + biases == pytest.approx(found.score, abs=1e-4), layer.id


def test_at_the_last_maps_it_is_the_contributions(shipped: Subject, cat: Pixels) -> None:
    form, question = shipped.served, Question(3, 5)
    found = gradient_activation.explain(form, cat, question, form.layers.find("relu10"))
    np.testing.assert_allclose(found.values, shipped.head.contributions(cat, question).values, atol=1e-6)


def test_the_usual_layer_is_fine_enough_to_say_where(shipped: Subject) -> None:
    layer = gradient_activation.usual_layer(shipped.served)
    assert (layer.id, layer.output) == ("relu8", (8, 8, 160))


def test_a_layer_behind_the_logits_is_refused(shipped: Subject, cat: Pixels) -> None:
    form = shipped.served
    with pytest.raises(CannotExplain, match="softmax1 has no gradient"):
        gradient_activation.explain(form, cat, Question(3), form.layers.find("softmax1"))


# --- occlusion


def test_occlusion_is_what_covering_by_hand_costs(shipped: Subject, cat: Pixels) -> None:
    found = occlusion.explain(shipped.served, cat, Question(3), fill="black", patch=6, stride=5)
    assert found.lost.shape == (6, 6)
    covered = cat.copy()
    covered[0, 10:16, 15:21] = 0
    logits, _ = shipped.served.answers(np.concatenate([cat, covered]))
    assert found.lost[2, 3] == pytest.approx(logits[0, 3] - logits[1, 3], abs=1e-5)
    assert found.heat_map().values is found.lost
    assert (found.heat_map().step, found.heat_map().size) == ((5, 5), (6, 6))


def test_usual_patches_are_an_eighth_of_the_side(shipped: Subject, cat: Pixels) -> None:
    found = occlusion.explain(shipped.served, cat, Question(3))
    assert (found.patch, found.stride, found.lost.shape) == ((4, 4), (2, 2), (15, 15))


def test_patches_that_make_no_sense_are_refused(shipped: Subject, cat: Pixels) -> None:
    with pytest.raises(InvalidOption, match="patch is 33: the image is 32 by 32 pixels"):
        occlusion.explain(shipped.served, cat, Question(3), patch=33)


# --- sanity checks (Adebayo et al. 2018, arXiv:1810.03292)


@pytest.mark.parametrize("method", methods.METHODS)
def test_a_map_changes_as_weights_are_randomised_from_the_top(
    method: str, shipped: Subject, images: Pixels, tmp_path: Path
) -> None:
    def maps(subject: Subject) -> list[Floats]:
        return [heat_map(method, subject, image[None], Question(3, 5)).values for image in images[:3]]

    before = maps(shipped)
    proto = onnx.load(bundle.read(shipped.folder).model)
    kernels = [one for one in proto.graph.initializer if len(one.dims) in (2, 4) and "whitening" not in one.name]
    kernels.sort(key=lambda one: _place(proto, one.name), reverse=True)
    rng = np.random.default_rng(0)
    likenesses: list[float] = []
    for kernel in kernels:
        values = numpy_helper.to_array(kernel)
        kernel.CopyFrom(numpy_helper.from_array(rng.permutation(values.reshape(-1)).reshape(values.shape), kernel.name))
        if kernel not in (kernels[0], kernels[-1]):
            continue
        folder = tmp_path / f"{len(likenesses)}"
        folder.mkdir()
        (folder / bundle.CARD).write_text(shipped.card.to_json())
        (folder / bundle.MODEL).write_bytes(proto.SerializeToString())
        after = maps(Subject(folder))
        likenesses.append(float(np.mean([abs(rank_correlation(a, b)) for a, b in zip(before, after, strict=True)])))
    head, all_layers = likenesses
    assert head < 0.75
    # independent maps of 3×3 values have 0.29 on average, with a standard error of 0.12 over three images
    assert all_layers < 0.5


def _place(proto: onnx.ModelProto, name: str) -> int:
    return next(place for place, node in enumerate(proto.graph.node) if name in node.input)


def rank_correlation(a: Floats, b: Floats) -> float:
    first, second = (values.reshape(-1).argsort().argsort().astype(np.float64) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


# --- a planted truth


@pytest.fixture(scope="module")
def planted_subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(planted.planted_bundle(tmp_path_factory.mktemp("planted")).folder)


@pytest.mark.parametrize("method", methods.METHODS)
def test_the_planted_patch_is_found(method: str, planted_subject: Subject) -> None:
    images, targets = planted.planted_images(16, 2)
    shares = []
    for image, target in zip(images, targets, strict=True):
        found = heat_map(method, planted_subject, image[None], Question(int(target)))
        shares.append(_inside(found))
    assert np.mean(shares) >= 0.8


def _inside(found: HeatMap) -> float:
    """The share of a map's mass in cells that touch the patch."""
    mass: npt.NDArray[np.float64] = np.abs(found.values).astype(np.float64)
    touching = np.zeros(mass.shape, bool)
    for place in np.ndindex(mass.shape):
        first = [start + index * step for start, index, step in zip(found.origin, place, found.step, strict=True)]
        touching[place] = all(
            start < side.stop and start + size > side.start
            for start, size, side in zip(first, found.size, planted.CORNER, strict=True)
        )
    assert touching.mean() < 0.2
    return float(mass[touching].sum() / mass.sum())


# --- which method explains which model


def test_a_model_that_a_method_cannot_explain(tmp_path: Path) -> None:
    subject = Subject(greedy_bundle(tmp_path, gigabytes=0.001).folder)
    assert set(methods.obstacles(subject)) == {"contributions"}
    assert methods.refusal("occlusion", subject) is None
    assert "use occlusion, integrated_gradients, gradient_activation" in str(methods.refusal("contributions", subject))


def test_an_int8_model_without_a_twin_has_no_gradients(quantised: Subject, tmp_path: Path) -> None:
    folder = tmp_path / "2"
    folder.mkdir()
    for name in (bundle.CARD, bundle.MODEL):
        (folder / name).write_bytes((quantised.folder / name).read_bytes())
    subject = Subject(folder)
    assert set(methods.obstacles(subject)) == {"integrated_gradients", "gradient_activation"}
    refusal = str(methods.refusal("integrated_gradients", subject))
    assert "no float32.onnx stands beside it" in refusal
    assert refusal.endswith("use contributions, occlusion")


def test_the_twin_of_an_int8_model_answers_for_it(
    quantised: Subject, shipped: Subject, tmp_path: Path, cat: Pixels
) -> None:
    folder = tmp_path / "2"
    folder.mkdir()
    for name in (bundle.CARD, bundle.MODEL):
        (folder / name).write_bytes((quantised.folder / name).read_bytes())
    (folder / bundle.FLOAT32).write_bytes(bundle.read(shipped.folder).model.read_bytes())
    subject = Subject(folder)
    assert not methods.obstacles(subject)
    assert (subject.served.dtype, subject.exact.dtype) == ("int8", "float32")
    np.testing.assert_array_equal(subject.exact.answers(cat)[0], shipped.served.answers(cat)[0])


def test_names_that_are_not_there_are_refused_with_those_that_are(shipped: Subject) -> None:
    with pytest.raises(UnknownMethod, match="choose from contributions, occlusion"):
        methods.find("gradcam")
    with pytest.raises(UnknownClass, match="there is no class 'fox': the classes are airplane, automobile"):
        shipped.index("fox")
    with pytest.raises(UnknownClass, match="or 0 to 9"):
        shipped.index("10")
    assert shipped.index("cat") == shipped.index("3") == 3
    with pytest.raises(InvalidOption, match="patch is an option of occlusion, not of contributions"):
        methods.check_options("contributions", {"patch"})


def test_a_model_without_logits_is_explained_by_what_its_softmax_reads(
    shipped: Subject, cat: Pixels, tmp_path: Path
) -> None:
    proto = onnx.load(bundle.read(shipped.folder).model)
    kept = [value for value in proto.graph.output if value.name != bundle.LOGITS]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    path = tmp_path / bundle.MODEL
    path.write_bytes(proto.SerializeToString())
    form = Form(path, shipped.card.labels)
    logits, probabilities = form.answers(cat)
    theirs, same = shipped.served.answers(cat)
    unsmoothed = calibrate.unsmoothed(theirs, shipped.card.label_smoothing)
    np.testing.assert_allclose(logits, unsmoothed / shipped.card.temperature, atol=1e-4)
    np.testing.assert_allclose(probabilities, same, atol=1e-6)
